"""What partitions a model has: windows, groups, and what is made from what."""
