"""Code location: loads export files into the raw tables of the lake."""
