"""``defer``: makes a function a background function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from deferlite.sdk.durations import Duration
from deferlite.sdk.functions import AsyncBackgroundFunction, BackgroundFunction
from deferlite.sdk.options import Aliases, MaxConcurrencyAction, define
from deferlite.sdk.retry import Retry

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """Takes a function or a coroutine function."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncBackgroundFunction[P, R]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, fn: Callable[P, R], /) -> BackgroundFunction[P, R]: ...


class _Defer:
    """The one object behind ``defer``; ``defer.cron`` is its method."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        fn: Callable[P, Coroutine[Any, Any, R]],
        /,
        *,
        name: str | None = None,
        aliases: Aliases = (),
        retry: Retry | None = None,
        concurrency: int | None = None,
        max_duration: Duration | None = None,
        max_concurrency_action: MaxConcurrencyAction = "keep",
    ) -> AsyncBackgroundFunction[P, R]: ...

    @overload
    def __call__(
        self,
        fn: Callable[P, R],
        /,
        *,
        name: str | None = None,
        aliases: Aliases = (),
        retry: Retry | None = None,
        concurrency: int | None = None,
        max_duration: Duration | None = None,
        max_concurrency_action: MaxConcurrencyAction = "keep",
    ) -> BackgroundFunction[P, R]: ...

    @overload
    def __call__(
        self,
        /,
        *,
        name: str | None = None,
        aliases: Aliases = (),
        retry: Retry | None = None,
        concurrency: int | None = None,
        max_duration: Duration | None = None,
        max_concurrency_action: MaxConcurrencyAction = "keep",
    ) -> Decorator: ...

    def __call__(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make ``fn`` a background function: ``@defer``, ``@defer(retry=5)`` or ``defer(fn, retry=5)``.

        ``retry``: False (default), True (13 times), a number, a ``RetryPolicy`` or a dict of its fields.
        ``concurrency``: most executions of it at once. ``max_duration``: how long an attempt may run.
        ``max_concurrency_action``: "keep" (default) leaves in the queue what is beyond the concurrency,
        "cancel" cancels it.
        ``name``: what the function is called in its environment, its own name by default.
        ``aliases``: what it was called before, such as ["old_name"]: executions under these names are its own.

        Raises:
            TypeError, ValueError: an option is wrong; the message names it.
        """
        return _decorator(options) if fn is None else _decorator(options)(fn)

    def cron(
        self,
        expression: str,
        /,
        *,
        timezone: str = "UTC",
        name: str | None = None,
        aliases: Aliases = (),
        retry: Retry | None = None,
        concurrency: int | None = None,
        max_duration: Duration | None = None,
        max_concurrency_action: MaxConcurrencyAction = "keep",
    ) -> Decorator:
        """Make the function run on a schedule: ``@defer.cron("0 8 * * *", timezone="Europe/Paris")``.

        ``expression`` has five fields (minute, hour, day, month, weekday), or is ``@hourly``, ``@daily``, ``@weekly``,
        ``@monthly`` or ``@yearly``. The function is called without arguments; it can be enqueued like any other, too.
        """
        options = {
            "cron": expression,
            "timezone": timezone,
            "name": name,
            "aliases": aliases,
            "retry": retry,
            "concurrency": concurrency,
            "max_duration": max_duration,
            "max_concurrency_action": max_concurrency_action,
        }
        decorator: Decorator = _decorator(options)
        return decorator


def _decorator(options: dict[str, Any]) -> Any:
    def defer(fn: Callable[..., Any], /) -> Any:
        definition = define(fn, **options)
        is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)
        return AsyncBackgroundFunction(definition) if is_async else BackgroundFunction(definition)

    return defer


defer = _Defer()
