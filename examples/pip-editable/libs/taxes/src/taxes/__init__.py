"""Rates of the value-added tax, in percent."""

RATES = {"DE": 19.0, "FR": 20.0, "LU": 17.0}


def rate_of(country: str) -> float:
    """Raises ValueError for a country that is not in the table."""
    try:
        return RATES[country]
    except KeyError:
        raise ValueError(f"no tax rate is known for {country!r}") from None
