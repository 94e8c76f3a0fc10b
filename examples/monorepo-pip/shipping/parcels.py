"""Parcels and what they cost."""

from money import cents, shown

from deferlite import defer

STEPS = ((1000, "3.90"), (5000, "6.50"), (31500, "13.20"))


@defer
def postage(grams: list[int]) -> str:
    """The postage of several parcels. Raises ValueError for one that is too heavy."""
    total = 0
    for weight in grams:
        price = next((price for limit, price in STEPS if weight <= limit), None)
        if price is None:
            raise ValueError(f"{weight} g are too heavy for a parcel")
        total += cents(price)
    return shown(total)
