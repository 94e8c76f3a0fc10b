"""Numbers of invoices."""

from slugify import slugify


def number_of(customer: str, year: int, count: int) -> str:
    return f"{slugify(customer).upper()}-{year}-{count:04}"
