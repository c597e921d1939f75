"""What follows what, and what heals it."""
