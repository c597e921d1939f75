"""`headrace new`: a code location from the workspace's template, and its entries in the files that locations share."""
