"""Prices, for every part of the shop."""

PRICES = {"teapot": 24.5, "cup": 6.0, "tray": 12.0}
DISCOUNT_FROM = 10
DISCOUNT = 0.1


def price_of(product: str, quantity: int) -> float:
    """Raises ValueError for what the shop does not sell."""
    if product not in PRICES:
        raise ValueError(f"the shop does not sell {product!r}")
    factor = 1 - DISCOUNT if quantity >= DISCOUNT_FROM else 1
    return round(PRICES[product] * quantity * factor, 2)
