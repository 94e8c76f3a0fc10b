"""A stockroom."""
