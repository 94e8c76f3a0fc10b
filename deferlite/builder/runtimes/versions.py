"""Python versions as projects ask for them: ``3.12``, ``3.12.1``, ``pypy3.10``, ``3.13t``, ``>=3.11,<3.13``."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import packaging.version
from packaging.specifiers import InvalidSpecifier, SpecifierSet

Version = tuple[int, ...]

_PLAIN = re.compile(
    r"(?:(c?python|pypy)[-@ ]?)?(\d+(?:\.\d+){0,2})(?:\.\*)?(t|\+freethreaded)?(?:-[a-z0-9_-]+)?\Z",
    re.IGNORECASE | re.ASCII,
)
_NEEDLESS_STAR = re.compile(r"((?:>=|<=|>|<|~=)\s*\d+(?:\.\d+)*)\.\*", re.ASCII)
LONGEST = 1000
"""Characters of a range that are looked at."""

_POETRY = re.compile(r"([\^~])\s*(\d+(?:\.\d+){0,2})\Z", re.ASCII)

OLDEST: Version = (3, 10)
"""The oldest Python that the SDK and the runner support."""


def parse_wanted(text: str) -> Callable[[Version], bool]:
    """Return the test that a version of three numbers has to pass.

    Raises:
        ValueError: not a version and not a list of comparisons.
    """
    plain = _PLAIN.match(text.strip())
    if plain:
        numbers = _numbers(plain[2])
        return lambda version: version[: len(numbers)] == numbers
    try:
        clauses = SpecifierSet(_NEEDLESS_STAR.sub(r"\1", text if len(text) <= LONGEST else "?"))
    except InvalidSpecifier:
        raise ValueError(f"{text[:99]!r} is not a Python version: write 3.12, 3.12.1 or >=3.11,<3.13") from None
    if not clauses:
        raise ValueError(f"{text!r} is not a Python version")
    return lambda version: clauses.contains(_parsed(version), prereleases=True)


@functools.cache
def _parsed(version: Version) -> packaging.version.Version:
    return packaging.version.Version(".".join(map(str, version)))


def flavour(text: str) -> tuple[str, bool]:
    """The implementation that is asked for, in small letters, and whether it is the one without the GIL."""
    plain = _PLAIN.match(text.strip())
    if plain is None:
        return "cpython", False
    return "pypy" if (plain[1] or "").lower() == "pypy" else "cpython", plain[3] is not None


def minor_of(text: str) -> str | None:
    """``3.12`` of ``3.12.1`` or ``cpython@3.12.1``; None where no patch version is asked for."""
    plain = _PLAIN.match(text.strip())
    if plain is None or plain[2].count(".") < 2 or flavour(text) != ("cpython", False):
        return None
    return plain[2].rpartition(".")[0]


def as_clauses(text: str) -> str:
    """The same as comparisons, so that others can follow behind a comma."""
    plain = _PLAIN.match(text.strip())
    if plain is None:
        return text.strip()
    return f"=={plain[2]}" if plain[2].count(".") == 2 else f"=={plain[2]}.*"


def from_poetry(wanted: str) -> str:
    """Poetry's ``^3.10`` and ``~3.11`` as comparisons; others as they are."""
    return ",".join(_poetry_clause(part.strip()) for part in wanted.split(",") if part.strip())


def _poetry_clause(clause: str) -> str:
    match = _POETRY.match(clause)
    if match is None:
        return clause
    numbers = _numbers(match[2])
    kept = 1 if match[1] == "^" or len(numbers) == 1 else 2
    after = (*numbers[: kept - 1], numbers[kept - 1] + 1)
    return f">={match[2]},<{text(after)}"


def _numbers(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


def text(version: Version) -> str:
    return ".".join(map(str, version))


_THINKABLE = tuple((3, minor, patch) for minor in range(OLDEST[1], 40) for patch in range(40))


def can_fit(wanted: str) -> bool:
    """Whether any version that deferlite supports could pass."""
    fits = parse_wanted(wanted)
    return any(fits(version) for version in _THINKABLE)


def is_within(wanted: str, wider: str) -> bool:
    """Whether every version that passes ``wanted`` passes ``wider`` too."""
    fits, allowed = parse_wanted(wanted), parse_wanted(wider)
    return all(allowed(version) for version in _THINKABLE if fits(version))
