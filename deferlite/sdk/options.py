"""The options of a background function and of one call, checked where they are written."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from deferlite.sdk.durations import Duration, Moment, parse_duration
from deferlite.sdk.retry import Retry, RetryPolicy, parse_retry

MaxConcurrencyAction = Literal["keep", "cancel"]
Aliases = list[str] | tuple[str, ...]

_NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,253}[^\s\x00-\x1f\x7f])?\Z")
_METADATA = re.compile(r"[\x20-\x7e]{1,256}\Z")
_METADATA_PAIRS = 25


@dataclass(frozen=True)
class Definition:
    """A background function: the code and its checked options. Durations are seconds."""

    name: str
    aliases: tuple[str, ...]
    fn: Callable[..., Any]
    retry: RetryPolicy
    concurrency: int | None
    max_duration: float | None
    max_concurrency_action: MaxConcurrencyAction
    cron: str | None
    timezone: str

    def metadata(self) -> dict[str, Any]:
        """What ``__metadata__`` holds: the builder and the runner read it."""
        names = ("name", "concurrency", "max_duration", "max_concurrency_action", "cron", "timezone")
        options = {name: getattr(self, name) for name in names}
        return {"version": 1, "aliases": list(self.aliases), "retry_policy": self.retry.as_dict(), **options}


def define(
    fn: Callable[..., Any],
    *,
    name: str | None = None,
    aliases: Aliases = (),
    retry: Retry | None = None,
    concurrency: int | None = None,
    max_duration: Duration | None = None,
    max_concurrency_action: MaxConcurrencyAction = "keep",
    cron: str | None = None,
    timezone: str = "UTC",
) -> Definition:
    """Check a function and its options.

    Raises:
        TypeError: ``fn`` cannot be a background function, or an option is of the wrong type.
        ValueError: an option is out of its bounds; the message names it.
    """
    _check_function(fn)
    if concurrency is not None and not _is_whole(concurrency, 1, 2**31):
        raise ValueError(f"concurrency is a whole number from 1, or None for no limit, not {concurrency!r}")
    if max_concurrency_action not in ("keep", "cancel"):
        raise ValueError(f'max_concurrency_action is "keep" or "cancel", not {max_concurrency_action!r}')
    checked_name = _check_name(getattr(fn, "__name__", "") if name is None else name)
    return Definition(
        name=checked_name,
        aliases=_check_aliases(aliases, checked_name),
        fn=fn,
        retry=_named("retry", parse_retry, retry),
        concurrency=concurrency,
        max_duration=None if max_duration is None else _named("max_duration", _parse_max_duration, max_duration),
        max_concurrency_action=max_concurrency_action,
        cron=None if cron is None else _check_cron(fn, cron),
        timezone=timezone,
    )


def _check_function(fn: object) -> None:
    if isinstance(fn, (staticmethod, classmethod)):
        raise TypeError(
            "defer goes under @staticmethod, next to the function; methods that need self or cls cannot wait in a queue"
        )
    if not callable(fn) or isinstance(fn, type):
        raise TypeError(f"defer takes a function, not {fn!r}: write @defer or defer(function, retry=5)")
    if hasattr(fn, "__fn__"):
        raise TypeError(f"{fn!r} is a background function already: decorate it once")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"{fn!r} is a generator, whose values no queue can keep: return a list instead")


def _check_name(name: str) -> str:
    if not _is_name(name):
        raise ValueError(
            f'name is a text of 1 to 255 characters without line breaks, such as defer(fn, name="send_mail"), '
            f"not {name!r}"
        )
    return name


def _check_aliases(aliases: Aliases, name: str) -> tuple[str, ...]:
    if isinstance(aliases, str):
        raise TypeError(f"aliases is a list of former names, not a string: write aliases=[{aliases!r}]")
    if not isinstance(aliases, (list, tuple)):
        raise TypeError(f'aliases is a list of former names, such as aliases=["old_name"], not {aliases!r}')
    for alias in aliases:
        if not isinstance(alias, str):
            raise TypeError(f"aliases: a former name is a string, not {alias!r}")
        if not _is_name(alias):
            raise ValueError(
                f"aliases: a former name is a text of 1 to 255 characters without line breaks, not {alias!r}"
            )
        if alias == name:
            raise ValueError(f"aliases: {alias!r} is what the function is called now: leave it out")
    return tuple(dict.fromkeys(aliases))


def _is_name(text: object) -> bool:
    return isinstance(text, str) and text != "<lambda>" and _NAME.match(text) is not None


def _parse_max_duration(value: Duration) -> float:
    seconds = parse_duration(value)
    if seconds == 0:
        raise ValueError('it is longer than nothing: write "10m", or leave it out')
    return seconds


def _check_cron(fn: Callable[..., Any], expression: str) -> str:
    """The expression with single spaces. What they hold, and the time zone, is checked by the build."""
    text = " ".join(expression.split()) if isinstance(expression, str) else ""
    if not text.startswith("@") and text.count(" ") != 4:
        raise ValueError(
            f'cron has five fields (minute hour day month weekday), such as "0 8 * * *", or is @daily and the like, '
            f"not {expression!r}"
        )
    try:
        inspect.signature(fn).bind()
    except TypeError as error:
        message = f"a cron function is called without arguments ({error}): give its parameters defaults"
        raise TypeError(message) from None
    return text


@dataclass(frozen=True)
class CallOptions:
    """The options of one call. A duration counts from the call."""

    delay: Moment | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    discard_after: Moment | None = None
    priority: int = 0
    idempotency_key: str | None = None
    concurrency_key: str | None = None

    def __post_init__(self) -> None:
        for name, moment in (("delay", self.delay), ("discard_after", self.discard_after)):
            if moment is not None and not isinstance(moment, datetime):
                _named(name, parse_duration, moment)
        _check_metadata(self.metadata)
        if not _is_whole(self.priority, -100, 100):
            raise ValueError(f"priority is a whole number from -100 to 100, not {self.priority!r}")
        for name, key in (("idempotency_key", self.idempotency_key), ("concurrency_key", self.concurrency_key)):
            if key is not None and (not isinstance(key, str) or not 1 <= len(key) <= 256):
                raise ValueError(f"{name} is a text of 1 to 256 characters, not {key!r}")


def _check_metadata(metadata: Mapping[str, str]) -> None:
    if not isinstance(metadata, Mapping):
        raise TypeError(f'metadata is a dict such as {{"user": "7"}}, not {metadata!r}')
    if len(metadata) > _METADATA_PAIRS:
        raise ValueError(f"metadata holds at most {_METADATA_PAIRS} pairs, not {len(metadata)}")
    for key, value in metadata.items():
        for what, text in ((f"key {key!r}", key), (f"value of {key!r}", value)):
            if not isinstance(text, str):
                raise TypeError(f"metadata: the {what} is a string, not {text!r}: pass str(…)")
            if not _METADATA.match(text):
                raise ValueError(f"metadata: the {what} is of 1 to 256 printable ASCII characters, not {text[:300]!r}")


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _named(option: str, parse: Callable[[Any], Any], value: Any) -> Any:
    """``parse(value)``, whose errors get the option's name in front."""
    try:
        return parse(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{option}: {error}") from None
