"""`headrace run`: what is stale, built by one backfill over all code locations."""
