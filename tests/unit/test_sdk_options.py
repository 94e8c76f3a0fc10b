"""Options are checked where they are written; messages name the option and the cure."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from deferlite import RetryPolicy, defer
from deferlite.sdk.durations import parse_duration, parse_moment
from deferlite.sdk.options import CallOptions


def work(number: int = 1) -> int:
    return number


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1h", 3600),
        ("2 days", 172_800),
        ("1d30m", 88_200),
        ("10 seconds", 10),
        ("1.5 min", 90),
        ("1 hour, 5 minutes", 3900),
        (timedelta(minutes=1), 60),
        (0.25, 0.25),
    ],
)
def test_durations(value: Any, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize("value", ["", "1", "h", "1x", "-1h", "1h 2", "1e3s", -1, float("nan"), float("inf"), 10**12])
def test_what_is_no_duration(value: Any) -> None:
    with pytest.raises(ValueError):
        parse_duration(value)


def test_a_moment_is_a_date_or_counts_from_now() -> None:
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    there = datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    assert parse_moment("1h", now) == now + timedelta(hours=1)
    assert parse_moment(there, now) == now


def test_metadata_of_a_function_says_all_that_the_builder_needs() -> None:
    task = defer(work, retry=5, concurrency=2, max_duration="10m", name="import", aliases=("load", "fetch", "load"))
    assert task.__metadata__ == {
        "name": "import",
        "aliases": ["load", "fetch"],
        "version": 1,
        "retry_policy": RetryPolicy(max_attempts=5).as_dict(),
        "concurrency": 2,
        "max_duration": 600.0,
        "max_concurrency_action": "keep",
        "cron": None,
        "timezone": "UTC",
    }
    assert task.__fn__ is work
    assert task.__name__ == "work"


@pytest.mark.parametrize(
    ("retry", "attempts"),
    [(False, 0), (None, 0), (True, 13), (4, 4), ({"initial_interval": 1}, 13), (RetryPolicy(max_attempts=2), 2)],
)
def test_retry(retry: Any, attempts: int) -> None:
    assert defer(work, retry=retry).__metadata__["retry_policy"]["max_attempts"] == attempts


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency": 0}, "concurrency is a whole number from 1"),
        ({"concurrency": True}, "concurrency is a whole number"),
        ({"max_duration": "soon"}, "max_duration: 'soon' is not a duration"),
        ({"max_duration": 0}, "max_duration: it is longer than nothing"),
        ({"retry": -1}, "retry: max_attempts"),
        ({"retry": "often"}, "retry: retry is a bool"),
        ({"retry": {"maxAttempts": 3}}, "retry: retry has no field 'maxAttempts'"),
        ({"max_concurrency_action": "drop"}, 'max_concurrency_action is "keep" or "cancel"'),
        ({"name": ""}, "name is a text"),
        ({"name": "two\nlines"}, "name is a text"),
        ({"aliases": "load"}, r"aliases is a list .*, not a string: write aliases=\['load'\]"),
        ({"aliases": {"load"}}, "aliases is a list of former names"),
        ({"aliases": None}, "aliases is a list of former names"),
        ({"aliases": [7]}, "aliases: a former name is a string, not 7"),
        ({"aliases": [""]}, "aliases: a former name is a text of 1 to 255"),
        ({"aliases": ["two\nlines"]}, "aliases: a former name is a text of 1 to 255"),
        ({"aliases": ["work"]}, "aliases: 'work' is what the function is called now"),
        ({"retries": 3}, "unexpected keyword argument 'retries'"),
    ],
)
def test_wrong_options_of_a_function(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        defer(**options)(work)
    with pytest.raises((TypeError, ValueError), match=words):
        defer(work, **options)


def test_cron() -> None:
    @defer.cron("0  8 * * MON-FRI", timezone="Europe/Paris", retry=1)
    def digest() -> None: ...

    assert digest.__metadata__["cron"] == "0 8 * * MON-FRI"
    assert digest.__metadata__["timezone"] == "Europe/Paris"
    assert digest.__metadata__["retry_policy"]["max_attempts"] == 1


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * *", "cron has five fields .*'\\* \\* \\* \\*'"),
        ("0 0 8 * * *", "cron has five fields"),
        (work, "cron has five fields"),
    ],
)
def test_wrong_cron_expressions(expression: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        defer.cron(expression)(work)


def test_a_cron_function_has_nothing_to_ask_for() -> None:
    def needs(company: str) -> None: ...

    with pytest.raises(TypeError, match=r"called without arguments .*'company'.* defaults"):
        defer.cron("@daily")(needs)


class Jobs:
    def method(self) -> None: ...


def generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (7, "defer takes a function"),
        (Jobs, "defer takes a function"),
        (staticmethod(work), "under @staticmethod"),
        (generator, "generator"),
        (defer(work), "background function already"),
        (lambda: None, "name is a text of .*name="),
        (partial(work, 1), "name is a text of .*name="),
    ],
)
def test_what_cannot_be_deferred(fn: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        defer(fn)


def test_a_lambda_with_a_name_can() -> None:
    assert defer(lambda: None, name="nothing").__metadata__["name"] == "nothing"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delay": "later"}, "delay: 'later' is not a duration"),
        ({"discard_after": -1}, "discard_after: a duration is between"),
        ({"priority": 101}, "priority is a whole number from -100 to 100"),
        ({"priority": True}, "priority"),
        ({"idempotency_key": ""}, "idempotency_key is a text of 1 to 256"),
        ({"concurrency_key": "x" * 257}, "concurrency_key is a text of 1 to 256"),
        ({"metadata": ["a"]}, "metadata is a dict"),
        ({"metadata": {"user": 7}}, "metadata: the value of 'user' is a string, not 7"),
        ({"metadata": {"": "x"}}, "1 to 256 printable ASCII"),
        ({"metadata": {"name": "Zoë"}}, "1 to 256 printable ASCII"),
        ({"metadata": {"long": "x" * 257}}, "1 to 256 printable ASCII"),
        ({"metadata": {str(i): "x" for i in range(26)}}, "at most 25 pairs, not 26"),
    ],
)
def test_wrong_options_of_a_call(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        defer(work).options(**options)


def test_options_add_up() -> None:
    task = defer(work).options(delay="1h", priority=3).options(priority=5, metadata={"user": "7"})
    assert task._options == CallOptions(delay="1h", priority=5, metadata={"user": "7"})
