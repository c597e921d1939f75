"""A code location, loaded and described by its own interpreter."""
