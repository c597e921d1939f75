"""How a partition group becomes assets, checks, sources and freshness."""
