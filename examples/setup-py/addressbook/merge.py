"""Merging entries of the same person."""

from nameparser import HumanName

from deferlite import defer


@defer
def merge_people(names: list[str]) -> dict[str, list[str]]:
    """The ways in which each person is written, by last and first name."""
    people: dict[str, list[str]] = {}
    for name in names:
        read = HumanName(name)
        people.setdefault(f"{read.last}, {read.first}".title(), []).append(name)
    return people
