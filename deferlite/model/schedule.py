"""Cron expressions with time zones, on cronsim.

Daylight saving neither skips nor doubles a tick. An expression that names hours names wall times: each of them comes
when the wall clock first shows it or, having jumped ahead, something later. An expression for every hour follows real
time: an hour that is repeated has its ticks too, and an hour that is left out has none.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache, partial
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from deferlite.model.clock import from_datetime, to_datetime

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
UTC = timezone.utc
_BACKWARDS = tuple(timedelta(hours=hours) for hours in (1, 25, 32 * 24, 367 * 24))


def validate_cron(expression: str, timezone: str = "UTC") -> None:
    """Check that ``expression`` names at least one moment, in a time zone that there is.

    Raises:
        ValueError: what is wrong, and how it is written.
    """
    next_tick(expression, timezone, 0)


def next_tick(expression: str, timezone: str, after: int) -> int:
    """The first moment later than ``after`` that ``expression`` names; both are microseconds since 1970.

    Raises:
        ValueError: not a cron expression, not a time zone, or a date that never comes.
    """
    zone = _zone(timezone)
    try:
        fields, every_hour = _fields(expression)
        if zone is UTC:
            return from_datetime(next(CronSim(fields, to_datetime(after))))
        if every_hour:
            return _next_shown(fields, zone, to_datetime(after))
        for wall in CronSim(fields, to_datetime(after).astimezone(zone).replace(tzinfo=None)):
            # While a repeated hour is passed for the second time, its wall times have been.
            if (moment := _first_shown(wall, zone)) > after:
                return moment
    except CronSimError as error:
        raise ValueError(f'cron "{expression}": {str(error).lower()}; {_CURE}') from None
    except StopIteration:
        pass
    raise ValueError(f'cron "{expression}" names a date that never comes; {_CURE}')


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


def _first_shown(wall: datetime, zone: tzinfo) -> int:
    """The first moment at which the clocks of ``zone`` show ``wall``, or leap over it."""
    late = wall.replace(tzinfo=zone).astimezone(UTC)
    if late.astimezone(zone).replace(tzinfo=None) == wall:
        return from_datetime(late)
    # There is no such wall time: PEP 495 reads it once with the offset before the gap and once with the one after.
    early = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return from_datetime(_turn(early, late, lambda moment: moment.astimezone(zone).replace(tzinfo=None) >= wall))


def _next_shown(fields: str, zone: tzinfo, after: datetime) -> int:
    """The next moment at which the clocks of ``zone`` show what ``fields`` name, as often as they show it."""
    offset = _offset(after, zone)
    while True:
        moment = next(CronSim(fields, after.replace(tzinfo=None) + offset)).replace(tzinfo=UTC) - offset
        if _offset(moment, zone) == offset:
            return from_datetime(moment)
        # The clocks are put on or back before: from there on with the other offset.
        change = _turn(after, moment, partial(_differs, zone, offset))
        after, offset = change - timedelta(seconds=1), _offset(change, zone)


def _turn(early: datetime, late: datetime, reached: Callable[[datetime], bool]) -> datetime:
    """The first whole second after ``early`` that has ``reached``; ``late`` has."""
    while late - early > timedelta(seconds=1):
        middle = (early + (late - early) / 2).replace(microsecond=0)
        if middle <= early:
            break
        early, late = (early, middle) if reached(middle) else (middle, late)
    return late


def _differs(zone: tzinfo, offset: timedelta, moment: datetime) -> bool:
    return _offset(moment, zone) != offset


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


@lru_cache(maxsize=1024)
def _fields(expression: str) -> tuple[str, bool]:
    """The five fields of ``expression``, and whether they name every hour."""
    text = expression.strip()
    parts = NAMES.get(text.lower(), text).split()
    if len(parts) != 5:
        raise ValueError(f'cron "{expression}" has {len(parts)} fields and not five; {_CURE}')
    return " ".join(parts), len(CronSim(" ".join(parts), datetime(2000, 1, 1)).hours) == 24


@lru_cache(maxsize=1024)
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f'"{name}" is no time zone; write a name such as "Europe/Paris" or "UTC"') from None
