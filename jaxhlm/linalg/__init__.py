"""Small matrices, many at a time, and factors that are the same on every processor."""
