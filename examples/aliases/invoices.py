"""A function that had other names before."""

from slugify import slugify

from deferlite import defer


@defer(aliases=["send_bill", "mail_bill"])
def send_invoice(customer: str, amount: float) -> dict[str, object]:
    """Was `send_bill`, and `mail_bill` before: what waits under these names is run by this function."""
    return {"to": f"{slugify(customer)}@example.org", "amount": amount}
