"""Cron over every zone with daylight saving: no tick is doubled, none is lost, none is early."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferlite.model.clock import SECOND, from_datetime, to_datetime
from deferlite.model.schedule import latest_tick, next_tick, validate_cron

YEAR = from_datetime(datetime(2027, 1, 1, tzinfo=timezone.utc))
YEAR_END = from_datetime(datetime(2028, 1, 1, tzinfo=timezone.utc))
HOUR = 3600 * SECOND
DAY = 24 * HOUR
MINUTE = 60 * SECOND


def offset(moment: int, zone: ZoneInfo) -> timedelta:
    return to_datetime(moment).astimezone(zone).utcoffset() or timedelta()


def changes(zone: ZoneInfo) -> tuple[tuple[int, timedelta], ...]:
    """The moments of 2027, to half an hour, at which the zone's offset changes, and by how much."""
    found = []
    for day in range(YEAR, YEAR_END, DAY):
        if offset(day, zone) != offset(day + DAY, zone):
            halves = range(day, day + DAY + 1, HOUR // 2)
            moment = next(half for half in halves if offset(half, zone) != offset(day, zone))
            found.append((moment, offset(moment, zone) - offset(day, zone)))
    return tuple(found)


def zones_by_change() -> dict[tuple[tuple[int, timedelta], ...], str]:
    """One zone for each set of changes: most names of the tz database are aliases of each other."""
    found: dict[tuple[tuple[int, timedelta], ...], str] = {}
    for name in sorted(available_timezones()):
        if name not in ("localtime", "Factory") and not name.startswith(("posix/", "right/")):
            found.setdefault(changes(ZoneInfo(name)), name)
    return found


CHANGING = {zone: turns for turns, zone in zones_by_change().items() if turns}
EXPRESSIONS = (
    ("30", "2"),
    ("0", "0"),
    ("15", "1,2,3"),
    ("*/20", "1"),
    ("*/20", "2"),
    ("5", "*/2"),
    ("*/20", "*"),
    ("45", "*"),
    ("0", "0-23"),
)
EXPANDED = {
    "*": ",".join(map(str, range(24))),
    "0-23": ",".join(map(str, range(24))),
    "*/2": ",".join(map(str, range(0, 24, 2))),
    "*/20": "0,20,40",
}


def test_there_are_zones_to_test() -> None:
    assert len(CHANGING) > 10
    assert any(change == timedelta(minutes=30) for turns in CHANGING.values() for _, change in turns)


def ticks(expression: str, zone: str, start: int, end: int) -> list[int]:
    found, moment = [], start
    while (moment := next_tick(expression, zone, moment)) < end:
        found.append(moment)
    return found


@lru_cache
def wall_clock(zone: str, start: int, end: int) -> list[tuple[int, datetime]]:
    """What the clocks of ``zone`` show, minute by minute."""
    info = ZoneInfo(zone)
    return [(moment, to_datetime(moment).astimezone(info).replace(tzinfo=None)) for moment in range(start, end, MINUTE)]


def expected_ticks(minutes: set[int], hours: set[int], clock: list[tuple[int, datetime]]) -> list[int]:
    """By looking at the clock every minute, as a person would: what it shows or has leapt over is due, once.

    Where every hour is named, what it shows is due, as often as it shows it.
    """
    found = []
    highest = clock[0][1]
    for moment, wall in clock[1:]:
        first = wall if len(hours) == 24 else highest + timedelta(minutes=1)
        passed = [first + timedelta(minutes=n) for n in range((wall - first) // timedelta(minutes=1) + 1)]
        if any(shown.minute in minutes and shown.hour in hours for shown in passed):
            found.append(moment)
        highest = max(highest, wall)
    return found


@pytest.mark.parametrize("zone", CHANGING)
@pytest.mark.parametrize(("minutes", "hours"), EXPRESSIONS)
def test_days_of_change_neither_skip_nor_double(zone: str, minutes: str, hours: str) -> None:
    wanted = [{int(part) for part in EXPANDED.get(field, field).split(",")} for field in (minutes, hours)]
    for change, _ in CHANGING[zone]:
        start, end = change - DAY, change + DAY
        found = ticks(f"{minutes} {hours} * * *", zone, start, end)
        assert found == expected_ticks(*wanted, wall_clock(zone, start, end))


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Australia/Lord_Howe"])
def test_a_daily_one_runs_every_day_of_the_year_once(zone: str) -> None:
    for expression in ("30 2 * * *", "0 0 * * *", "59 1 * * *"):
        found = ticks(expression, zone, YEAR, YEAR_END)
        days = {to_datetime(moment).astimezone(ZoneInfo(zone)).date() for moment in found}
        assert len(found) == len(days)
        assert len(found) in (364, 365, 366)


expressions = st.builds(
    "{} {} {} {} {}".format,
    st.sampled_from(("0", "*", "*/7", "30", "5,50", "10-20")),
    st.sampled_from(("*", "0", "2", "*/3", "1-4", "23")),
    st.sampled_from(("*", "1", "15", "L", "*/10")),
    st.sampled_from(("*", "3", "OCT", "1-6")),
    st.sampled_from(("*", "MON", "0", "1-5")),
)
moments = st.integers(min_value=0, max_value=4_000_000_000 * SECOND)


@given(expressions, st.sampled_from(["UTC", *CHANGING]), moments)
@settings(deadline=None, max_examples=300)
def test_the_next_tick_is_later_and_none_lies_between(expression: str, zone: str, after: int) -> None:
    tick = next_tick(expression, zone, after)
    assert tick > after
    assert tick % (60 * SECOND) == 0
    assert next_tick(expression, zone, tick - 1) == tick
    between = after + (tick - after) // 2
    assert next_tick(expression, zone, between) == tick


@given(expressions, st.sampled_from(["UTC", "Europe/Paris", "America/New_York"]), moments, st.integers(0, 40 * DAY))
@settings(deadline=None, max_examples=100)
def test_the_latest_tick_is_the_last_of_those_missed(expression: str, zone: str, after: int, down: int) -> None:
    first = next_tick(expression, zone, after)
    now = first + down
    latest = latest_tick(expression, zone, first, now)
    assert first <= latest <= now < next_tick(expression, zone, latest)


@pytest.mark.parametrize(
    ("name", "fields"), [("@daily", "0 0 * * *"), ("@Weekly", "0 0 * * 0"), ("@yearly", "0 0 1 1 *")]
)
def test_names_stand_for_fields(name: str, fields: str) -> None:
    assert next_tick(name, "UTC", YEAR) == next_tick(fields, "UTC", YEAR)


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("61 * * * *", "UTC", 'cron "61 * * * *": bad minute'),
        ("* * * *", "UTC", 'cron "* * * *" has 4 fields and not five'),
        ("0 * * * * *", "UTC", "has 6 fields and not five"),
        ("", "UTC", "has 0 fields"),
        ("@reboot", "UTC", 'cron "@reboot" has 1 fields'),
        ("0 0 31 2 *", "UTC", "bad day-of-month"),
        ("0 0 * * MON#5#1", "UTC", "bad day-of-week"),
        ("0 0 * * *", "Mars/Phobos", '"Mars/Phobos" is no time zone'),
        ("0 0 * * *", "../../etc/passwd", "is no time zone"),
    ],
)
def test_what_is_wrong_is_said_with_the_cure(expression: str, zone: str, words: str) -> None:
    with pytest.raises(ValueError, match="write") as caught:
        validate_cron(expression, zone)
    assert words in str(caught.value)


def test_good_ones_pass() -> None:
    for expression in ("@hourly", "0 8 * * MON-FRI", "*/5 0-6 1,15 jan,jul sun", "0 12 29 2 *"):
        validate_cron(expression)
