"""A gallery of pictures."""
