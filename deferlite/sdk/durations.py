"""Durations and moments as people write them: ``"1h"``, ``"2 days"``, ``"1d30m"``, timedelta, datetime."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

Duration = int | float | str | timedelta
Moment = Duration | datetime

_UNITS = {
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*,?\s*", re.ASCII)
_LONGEST = 100 * 365 * 86400.0


def parse_duration(value: Duration) -> float:
    """Return ``value`` in seconds.

    A number means seconds, a timedelta itself, a string one or more of number and unit
    (ms, s, m, h, d, w and their long names), such as ``"1h"``, ``"2 days"`` or ``"1d30m"``.

    Raises:
        ValueError: not a duration, negative, not finite, or longer than a hundred years.
        TypeError: neither a number, a string nor a timedelta.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(f'a duration is a string such as "1h", a number of seconds or a timedelta, not {value!r}')
    elif isinstance(value, str):
        seconds = _parse_text(value)
    else:
        seconds = float(value)
    if not 0 <= seconds <= _LONGEST:
        raise ValueError(f"a duration is between 0 and 100 years, not {value!r}")
    return seconds


def _parse_text(text: str) -> float:
    rest = text.strip().lower()
    total, position = 0.0, 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None or part[2] not in _UNITS:
            break
        total += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if not rest or position < len(rest):
        raise ValueError(f'{text!r} is not a duration: write "10 seconds", "30m", "1h", "2 days" or "1d30m"')
    return total


def parse_moment(value: Moment, now: datetime) -> datetime:
    """Return the UTC moment that ``value`` names: a datetime itself, a duration counted from ``now``.

    A datetime without a zone is taken as local time, as ``datetime.astimezone`` does.
    """
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc)
    return now + timedelta(seconds=parse_duration(value))
