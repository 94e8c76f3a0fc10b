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

METADATA_VERSION = 1
MaxConcurrencyAction = Literal["keep", "cancel"]

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,#-]+\Z")
_NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,253}[^\s\x00-\x1f\x7f])?\Z")
_METADATA = re.compile(r"[\x20-\x7e]{1,256}\Z")
_METADATA_PAIRS = 25
_KEY_LENGTH = 256


@dataclass(frozen=True)
class Definition:
    """A background function: the code and its checked options. Durations are seconds."""

    name: str
    fn: Callable[..., Any]
    is_async: bool
    retry: RetryPolicy
    concurrency: int | None = None
    max_duration: float | None = None
    max_concurrency_action: MaxConcurrencyAction = "keep"
    cron: str | None = None
    timezone: str = "UTC"

    def metadata(self) -> dict[str, Any]:
        """What ``__metadata__`` holds: the builder and the runner read it."""
        return {
            "name": self.name,
            "version": METADATA_VERSION,
            "retry_policy": self.retry.as_dict(),
            "concurrency": self.concurrency,
            "max_duration": self.max_duration,
            "max_concurrency_action": self.max_concurrency_action,
            "cron": self.cron,
            "timezone": self.timezone,
        }


def define(
    fn: Callable[..., Any],
    *,
    name: str | None = None,
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
    if cron is not None:
        _check_no_parameters(fn)
    return Definition(
        name=_check_name(fn, name),
        fn=fn,
        is_async=is_async(fn),
        retry=_named("retry", parse_retry, retry),
        concurrency=_check_concurrency(concurrency),
        max_duration=_check_max_duration(max_duration),
        max_concurrency_action=_check_action(max_concurrency_action),
        cron=None if cron is None else check_cron(cron),
        timezone=check_timezone(timezone),
    )


def is_async(fn: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)


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


def _check_no_parameters(fn: Callable[..., Any]) -> None:
    try:
        inspect.signature(fn).bind()
    except TypeError as error:
        raise TypeError(
            f"a cron function is called without arguments ({error}): give its parameters defaults"
        ) from None
    except ValueError:  # Built-in functions may not tell their signature.
        pass


def _check_name(fn: Callable[..., Any], name: str | None) -> str:
    found = getattr(fn, "__name__", None) if name is None else name
    if found is None or found == "<lambda>":
        raise ValueError('name: this function has none of its own, give it one: defer(fn, name="send_mail")')
    if not isinstance(found, str) or not _NAME.match(found):
        raise ValueError(f"name is a text of 1 to 255 characters without line breaks, not {found!r}")
    return found


def _check_concurrency(value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"concurrency is a whole number from 1, or None for no limit, not {value!r}")
    return value


def _check_max_duration(value: Duration | None) -> float | None:
    if value is None:
        return None
    seconds: float = _named("max_duration", parse_duration, value)
    if seconds <= 0:
        raise ValueError('max_duration is longer than nothing: write "10m", or leave it out')
    return seconds


def _check_action(value: MaxConcurrencyAction) -> MaxConcurrencyAction:
    if value not in ("keep", "cancel"):
        raise ValueError(f'max_concurrency_action is "keep" or "cancel", not {value!r}')
    return value


def check_cron(expression: str) -> str:
    """Return a five-field cron expression; ``@daily`` and its like are written out. The server checks the values."""
    if not isinstance(expression, str):
        raise TypeError(f'defer.cron takes an expression first, such as @defer.cron("0 8 * * *"), not {expression!r}')
    text = expression.strip()
    if text.startswith("@"):
        if text.lower() not in _ALIASES:
            raise ValueError(f"cron knows {', '.join(_ALIASES)}, not {expression!r}")
        return _ALIASES[text.lower()]
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(
            f"cron has five fields (minute hour day month weekday), such as "
            f'"0 8 * * *", and {expression!r} has {len(fields)}'
        )
    for part in fields:
        if not _CRON_FIELD.match(part):
            raise ValueError(f"cron cannot read {part!r} in {expression!r}: a field is of digits, names and * , - / #")
    return " ".join(fields)


def check_timezone(name: str) -> str:
    """Return ``name`` if it is an IANA zone, or if this machine has no zones to compare it with."""
    if not isinstance(name, str) or not name:
        raise TypeError(f'timezone is a name such as "Europe/Paris", not {name!r}')
    if name != "UTC" and not _is_zone(name) and _is_zone("Europe/London"):
        raise ValueError(f'timezone is an IANA name such as "Europe/Paris", not {name!r}')
    return name


def _is_zone(name: str) -> bool:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


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
        _check_moment("delay", self.delay)
        _check_moment("discard_after", self.discard_after)
        check_metadata(self.metadata)
        if isinstance(self.priority, bool) or not isinstance(self.priority, int) or abs(self.priority) > 100:
            raise ValueError(f"priority is a whole number from -100 to 100, not {self.priority!r}")
        for key in ("idempotency_key", "concurrency_key"):
            _check_key(key, getattr(self, key))


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Up to 25 pairs of 1 to 256 printable ASCII characters each.

    Raises:
        TypeError: not a mapping of strings to strings.
        ValueError: beyond those limits.
    """
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


def _check_moment(option: str, value: Moment | None) -> None:
    if value is not None and not isinstance(value, datetime):
        _named(option, parse_duration, value)


def _check_key(option: str, value: str | None) -> None:
    if value is not None and (not isinstance(value, str) or not 1 <= len(value) <= _KEY_LENGTH):
        raise ValueError(f"{option} is a text of 1 to {_KEY_LENGTH} characters, not {value!r}")


def _named(option: str, parse: Callable[[Any], Any], value: Any) -> Any:
    """``parse(value)``, whose errors get the option's name in front."""
    try:
        return parse(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{option}: {error}") from None
