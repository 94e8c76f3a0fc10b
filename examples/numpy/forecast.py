"""A forecast of sales."""

import numpy as np

from deferlite import defer


@defer(max_duration="1m")
def forecast(sales: list[float], months: int = 3) -> list[float]:
    """The next months by a straight line through the last ones."""
    at = np.arange(len(sales))
    slope, start = np.polyfit(at, np.asarray(sales, dtype=float), 1)
    return [round(float(start + slope * (len(sales) + month)), 2) for month in range(months)]
