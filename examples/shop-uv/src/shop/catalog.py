"""What the shop sells: code that knows nothing of background functions."""

from slugify import slugify

PRICES = {"teapot": 24.5, "cup": 6.0, "tray": 12.0}


def price(product: str) -> float:
    """Raises ValueError for what the shop does not sell."""
    try:
        return PRICES[slugify(product)]
    except KeyError:
        raise ValueError(f"the shop does not sell {product!r}") from None
