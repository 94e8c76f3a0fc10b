"""Python versions as projects ask for them: ``3.12``, ``3.12.1``, ``>=3.11,<3.13``."""

from __future__ import annotations

import re
from collections.abc import Callable

Version = tuple[int, ...]

_PLAIN = re.compile(r"(?:c?python[-@ ]?)?(\d+(?:\.\d+){0,2})\Z", re.IGNORECASE | re.ASCII)
_CLAUSE = re.compile(r"(===|==|!=|~=|>=|<=|>|<)\s*v?(\d+(?:\.\d+)*)(\.\*)?[a-z0-9.+-]*\Z", re.ASCII)

OLDEST: Version = (3, 10)
"""The oldest Python that the SDK and the runner support."""


def parse_wanted(text: str) -> Callable[[Version], bool]:
    """Return the test that a version of three numbers has to pass.

    Raises:
        ValueError: not a version and not a list of comparisons.
    """
    plain = _PLAIN.match(text.strip())
    if plain:
        numbers = _numbers(plain[1])
        return lambda version: version[: len(numbers)] == numbers
    clauses = [_clause(part.strip()) for part in text.split(",") if part.strip()]
    if not clauses:
        raise ValueError(f"{text!r} is not a Python version")
    return lambda version: all(clause(version) for clause in clauses)


def _numbers(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


def _clause(text: str) -> Callable[[Version], bool]:
    match = _CLAUSE.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a Python version: write 3.12, 3.12.1 or >=3.11,<3.13")
    operator, wanted, star = match[1], _numbers(match[2]), bool(match[3])
    full = (*wanted, 0, 0)[:3]
    if operator in ("==", "==="):
        return lambda version: version[: len(wanted)] == wanted if star else version == full
    if operator == "!=":
        return lambda version: version[: len(wanted)] != wanted if star else version != full
    if operator == "~=":
        return lambda version: version >= full and version[: len(wanted) - 1] == wanted[:-1]
    if operator == ">":
        return lambda version: version > full
    if operator == ">=":
        return lambda version: version >= full
    return lambda version: version < full if operator == "<" else version <= full


def text(version: Version) -> str:
    return ".".join(map(str, version))


def can_fit(wanted: str) -> bool:
    """Whether any version that deferlite supports could pass."""
    fits = parse_wanted(wanted)
    return any(fits((3, minor, patch)) for minor in range(OLDEST[1], 40) for patch in range(40))
