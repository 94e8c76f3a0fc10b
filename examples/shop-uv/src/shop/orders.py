"""Orders: a workflow of a parent and its children."""

import logging

from deferlite import await_result, defer
from shop.catalog import price
from shop.mail import send_mail

log = logging.getLogger(__name__)


@defer
def price_of(product: str, quantity: int = 1) -> float:
    """One line of an order."""
    return round(price(product) * quantity, 2)


@defer(retry=2, max_duration="5m")
def place_order(customer: str, products: dict[str, int]) -> dict[str, object]:
    """Prices every line in an execution of its own, then confirms by mail without waiting for it."""
    lines = {product: await_result(price_of)(product, quantity) for product, quantity in products.items()}
    total = round(sum(lines.values()), 2)
    log.info("order of %s: %d lines, %.2f", customer, len(lines), total)
    send_mail.options(metadata={"customer": customer})(customer, f"Your order: {total:.2f}")
    return {"customer": customer, "lines": lines, "total": total}
