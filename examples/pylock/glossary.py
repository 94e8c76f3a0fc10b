"""A glossary with an anchor for each entry."""

from slugify import slugify

from deferlite import defer


@defer
def index_glossary(entries: list[str]) -> list[list[str]]:
    """The entries in alphabetical order, each with its anchor."""
    return sorted(([entry, slugify(entry)] for entry in entries), key=lambda pair: pair[1])
