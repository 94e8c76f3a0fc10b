"""A newsroom."""
