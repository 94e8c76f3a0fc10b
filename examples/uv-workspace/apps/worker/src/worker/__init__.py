"""The shop's night shift."""
