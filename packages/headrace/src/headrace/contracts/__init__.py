"""What code locations promise each other, and whether it holds."""
