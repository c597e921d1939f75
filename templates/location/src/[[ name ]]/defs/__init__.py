"""What the code location holds; each module is loaded by itself."""
