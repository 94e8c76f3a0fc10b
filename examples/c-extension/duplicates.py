"""Customers that were entered twice."""

from itertools import combinations

from editdistance_native import distance

from deferlite import defer


@defer(max_duration="5m")
def find_duplicates(names: list[str], changes: int = 2) -> list[list[str]]:
    """Pairs of names that differ by so many letters at most."""
    return [list(pair) for pair in combinations(names, 2) if distance(*(one.casefold() for one in pair)) <= changes]
