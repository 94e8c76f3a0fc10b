"""Points for good customers."""
