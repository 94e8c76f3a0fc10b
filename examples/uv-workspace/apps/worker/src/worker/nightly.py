"""What is done at night."""

from pricing import price_of

from deferlite import defer


@defer.cron("0 2 * * *", timezone="Europe/Paris")
async def revalue_stock(stock: dict[str, int] | None = None) -> float:
    """The worth of what is in stock, at the prices of the day."""
    return round(sum(price_of(product, quantity) for product, quantity in (stock or {"cup": 100}).items()), 2)
