"""Points and levels."""

from slugify import slugify

from deferlite import defer

LEVELS = ((1000, "gold"), (250, "silver"), (0, "bronze"))


@defer
def credit_points(customer: str, purchases: list[float]) -> dict[str, object]:
    """A point for every full unit spent, and the level reached."""
    points = sum(int(amount) for amount in purchases)
    level = next(name for least, name in LEVELS if points >= least)
    return {"account": slugify(customer), "points": points, "level": level}
