"""Cron expressions with time zones, on cronsim (Debian cron's rules for daylight saving)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from deferlite.model.clock import SECOND, from_datetime, to_datetime

NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_CURE = 'write five fields "minute hour day month weekday", such as "0 8 * * MON-FRI", or one of @hourly, @daily …'
_BACKWARDS = tuple(timedelta(hours=hours) for hours in (1, 25, 32 * 24, 367 * 24))


def validate_cron(expression: str, timezone: str = "UTC") -> None:
    """Check that ``expression`` names at least one moment, in a time zone that there is.

    Raises:
        ValueError: what is wrong, and how it is written.
    """
    next_tick(expression, timezone, 0)


def next_tick(expression: str, timezone: str, after: int) -> int:
    """The first moment later than ``after`` that ``expression`` names; both are microseconds since 1970.

    A wall time that daylight saving skips runs right after the gap, one that it repeats runs once; expressions
    with ``*`` minutes or hours follow real time through both.

    Raises:
        ValueError: not a cron expression, not a time zone, or a date that never comes.
    """
    fields, zone = _fields(expression), _zone(timezone)
    moment = _after(expression, fields, zone, to_datetime(after))
    # A repeated or skipped wall time may map back to a moment that has been: the next one is later.
    guess = after
    while moment <= after:
        guess += 60 * SECOND
        moment = _after(expression, fields, zone, to_datetime(guess))
    return moment


def latest_tick(expression: str, timezone: str, first: int, now: int) -> int:
    """The last moment from ``first`` (itself a tick, not later than ``now``) to ``now`` that ``expression`` names.

    Raises:
        ValueError: as ``next_tick``.
    """
    for back in _BACKWARDS:
        start = now - back // timedelta(microseconds=1)
        if start <= first:
            break
        if (tick := next_tick(expression, timezone, start)) <= now:
            return _last(expression, timezone, tick, now)
    return _last(expression, timezone, first, now)


def _last(expression: str, timezone: str, tick: int, now: int) -> int:
    while (following := next_tick(expression, timezone, tick)) <= now:
        tick = following
    return tick


def _after(expression: str, fields: str, zone: ZoneInfo | timezone, moment: datetime) -> int:
    try:
        return from_datetime(next(CronSim(fields, moment.astimezone(zone))))
    except CronSimError as error:
        raise ValueError(f'cron "{expression}": {str(error).lower()}; {_CURE}') from None
    except StopIteration:
        raise ValueError(f'cron "{expression}" names a date that never comes; {_CURE}') from None


@lru_cache(maxsize=1024)
def _fields(expression: str) -> str:
    text = expression.strip()
    fields = NAMES.get(text.lower(), text)
    if len(fields.split()) != 5:
        raise ValueError(f'cron "{expression}" has {len(fields.split())} fields and not five; {_CURE}')
    return fields


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | timezone:
    # cronsim leaves out its daylight saving rules, and is faster, for this very object.
    if name == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f'"{name}" is no time zone; write a name such as "Europe/Paris" or "UTC"') from None
