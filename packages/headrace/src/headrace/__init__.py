"""The command line of a Headrace workspace."""
