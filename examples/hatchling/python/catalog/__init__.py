"""A catalogue of products."""

__version__ = "0.9.2"
