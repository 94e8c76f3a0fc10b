"""The addresses of a magazine's articles."""

from slugify import slugify

from deferlite import defer


@defer
def address_articles(titles: list[str]) -> dict[str, str]:
    """An address for each title; two titles with the same words get different ones."""
    addresses: dict[str, str] = {}
    for title in titles:
        base = slugify(title, max_length=40, word_boundary=True)
        taken = sum(1 for address in addresses.values() if address == base or address.startswith(f"{base}--"))
        addresses[title] = f"{base}--{taken + 1}" if taken else base
    return addresses
