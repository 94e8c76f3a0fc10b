"""Quotes that customers ask for."""

from pricing import price_of
from slugify import slugify

from deferlite import defer


@defer
def quote(product: str, quantity: int) -> dict[str, object]:
    """A quote with its number."""
    return {"number": f"Q-{slugify(product)}-{quantity}", "price": price_of(product, quantity)}
