"""Background functions of acme.billing; acme itself has no __init__.py and is shared by many distributions."""

from acme.billing.numbers import number_of

from deferlite import defer


@defer
def number_invoices(customers: list[str], year: int) -> list[str]:
    """A number for each customer's invoice, counted by customer."""
    counts: dict[str, int] = {}
    numbers = []
    for customer in customers:
        counts[customer] = counts.get(customer, 0) + 1
        numbers.append(number_of(customer, year, counts[customer]))
    return numbers
