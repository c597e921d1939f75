"""A host: what is installed on it, what serves, and how a release is switched."""
