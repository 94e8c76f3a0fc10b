"""Money changed at the rates of the build."""

from rates import RATES

from deferlite import defer


@defer
def exchange(amount: float, source: str, target: str) -> float:
    """Raises KeyError for a currency without a rate."""
    return round(amount / RATES[source] * RATES[target], 2)
