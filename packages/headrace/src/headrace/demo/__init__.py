"""The exports of a jaffle shop, as a source system would write them."""
