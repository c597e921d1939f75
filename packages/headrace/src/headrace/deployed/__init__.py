"""What the Dagster instance of an installation loads of Headrace, in its webserver and its daemon."""
