"""Counting what is there."""

from more_itertools import map_reduce

from deferlite import defer


@defer
def count_stock(scans: list[list[object]]) -> dict[str, int]:
    """Pieces for each shelf, from scans of shelf and number."""
    return dict(map_reduce(scans, lambda scan: str(scan[0]), lambda scan: int(str(scan[1])), sum))
