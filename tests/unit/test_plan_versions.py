"""Python versions as projects ask for them."""

from __future__ import annotations

import pytest

from deferlite.builder.runtimes.versions import can_fit, parse_wanted

FITS = [
    ("3.12", (3, 12, 1)),
    ("3", (3, 10, 0)),
    ("3.12.1", (3, 12, 1)),
    ("python3.12", (3, 12, 9)),
    ("cpython-3.12", (3, 12, 9)),
    (">=3.11,<3.13", (3, 12, 9)),
    (">= 3.11, != 3.12.*", (3, 13, 0)),
    ("~=3.11", (3, 14, 0)),
    ("~=3.11.2", (3, 11, 9)),
    ("==3.11.*", (3, 11, 7)),
    (">3.11", (3, 11, 1)),
    ("<=3.12", (3, 12, 0)),
    ("!=3.12.1", (3, 12, 2)),
]
DOES_NOT = [
    ("3.12", (3, 11, 7)),
    ("3.1", (3, 11, 7)),
    (">=3.11,<3.13", (3, 13, 0)),
    ("~=3.11.2", (3, 12, 0)),
    ("==3.11.*", (3, 12, 0)),
    ("<3.12", (3, 12, 0)),
    ("!=3.12.*", (3, 12, 2)),
]


@pytest.mark.parametrize(("wanted", "version"), FITS)
def test_fits(wanted: str, version: tuple[int, ...]) -> None:
    assert parse_wanted(wanted)(version)


@pytest.mark.parametrize(("wanted", "version"), DOES_NOT)
def test_does_not_fit(wanted: str, version: tuple[int, ...]) -> None:
    assert not parse_wanted(wanted)(version)


@pytest.mark.parametrize("wanted", ["", "new", "3.12.1.2", ">=", ",", "3.x"])
def test_is_no_version(wanted: str) -> None:
    with pytest.raises(ValueError, match=r"is not a Python version"):
        parse_wanted(wanted)


def test_a_version_that_deferlite_does_not_support_can_never_fit() -> None:
    assert not can_fit("3.9")
    assert not can_fit("<3.10")
    assert can_fit(">=3.8")
