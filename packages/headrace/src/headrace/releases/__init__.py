"""`headrace release`: what is deployed of a code location, built from one revision and not changed afterwards."""
