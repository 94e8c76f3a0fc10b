"""Background functions; what they compute is in libs/."""

from invoicing import Invoice
from taxes import rate_of

from deferlite import defer


@defer
def make_invoice(customer: str, lines: dict[str, float], country: str) -> dict[str, object]:
    """An invoice with the value-added tax of the customer's country."""
    invoice = Invoice(customer, lines)
    tax = round(invoice.net * rate_of(country) / 100, 2)
    return {"customer": customer, "net": invoice.net, "tax": tax, "gross": round(invoice.net + tax, 2)}
