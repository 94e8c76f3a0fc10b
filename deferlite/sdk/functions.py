"""Background functions: objects whose call puts the function's call into a queue."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Generic, ParamSpec, TypeVar, cast

from deferlite.sdk.backends import current_backend
from deferlite.sdk.durations import Moment, parse_moment
from deferlite.sdk.executions import Execution, NewExecution
from deferlite.sdk.options import CallOptions, Definition
from deferlite.sdk.payload import check

P = ParamSpec("P")
R = TypeVar("R")
Self = TypeVar("Self", bound="Background[..., Any]")
Arguments = Sequence[Any] | Mapping[str, Any]
"""The arguments of one call of ``enqueue_many``: a tuple or list of positional ones, or a dict of named ones."""

_LONGEST_BATCH = 10_000


class Background(Generic[P, R]):
    """A function and the options of its calls; what both kinds of background function share."""

    __fn__: Callable[P, R]
    __metadata__: dict[str, Any]
    __name__: str

    def __init__(self, definition: Definition, options: CallOptions | None = None) -> None:
        self._definition = definition
        self._options = options or CallOptions()
        if options is None:
            # The builder finds a function by these two: what ``options`` makes of it must not be found as well.
            functools.update_wrapper(cast(Any, self), definition.fn)
            self.__fn__ = definition.fn
            self.__metadata__ = definition.metadata()

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now, as if it had never been deferred."""
        found: R = self._definition.fn(*args, **kwargs)
        return found

    def options(
        self: Self,
        *,
        delay: Moment | None = None,
        metadata: Mapping[str, str] | None = None,
        discard_after: Moment | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
        concurrency_key: str | None = None,
    ) -> Self:
        """The same function, with these options for its calls. Options not given stay as they are.

        ``delay`` and ``discard_after`` are durations counted from the call, or moments. ``metadata`` holds up to 25
        pairs of strings. A higher ``priority`` (-100 to 100) starts first. Calls with the same ``idempotency_key``
        within 24 hours are one execution. Executions with the same ``concurrency_key`` run one after another.
        """
        options = {
            "delay": delay,
            "metadata": metadata,
            "discard_after": discard_after,
            "priority": priority,
            "idempotency_key": idempotency_key,
            "concurrency_key": concurrency_key,
        }
        given: Any = {name: value for name, value in options.items() if value is not None}
        return type(self)(self._definition, replace(self._options, **given))

    def _request(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any], awaited: bool = False) -> NewExecution:
        _check_call(self._definition, arguments, keywords)
        now = datetime.now(timezone.utc)
        moments = (self._options.delay, self._options.discard_after)
        scheduled_at, discard_at = (None if moment is None else parse_moment(moment, now) for moment in moments)
        return NewExecution(self._definition, arguments, keywords, self._options, scheduled_at, discard_at, awaited)

    def _requests(self, calls: Iterable[Arguments]) -> list[NewExecution]:
        if self._options.idempotency_key is not None:
            raise ValueError("idempotency_key names one execution: enqueue_many makes several, leave it out")
        found = [self._request(*_split(self._definition.name, call)) for call in calls]
        if len(found) > _LONGEST_BATCH:
            raise ValueError(f"enqueue_many takes at most {_LONGEST_BATCH:,} calls at once, not {len(found):,}")
        return found

    def __reduce__(self) -> str:
        # Pickled by reference, as functions are.
        return str(vars(self)["__qualname__"])

    def __repr__(self) -> str:
        return f"<background function {self._definition.name}>"


class BackgroundFunction(Background[P, R]):
    """What ``defer`` makes of a function: calling it enqueues."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Execution:
        """Enqueue a call and return its execution.

        Raises:
            TypeError: the arguments do not fit the function, or are not JSON.
            DeferError: the execution was not accepted.
        """
        return current_backend().enqueue([self._request(args, kwargs)])[0]

    def enqueue_many(self, calls: Iterable[Arguments]) -> list[Execution]:
        """Enqueue up to 10,000 calls at once, all or none; executions come back in their order."""
        return current_backend().enqueue(self._requests(calls))


class AsyncBackgroundFunction(Background[P, Coroutine[Any, Any, R]]):
    """What ``defer`` makes of a coroutine function: awaiting its call enqueues."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Execution]:
        """Enqueue a call, once awaited, and return its execution. Wrong arguments are a TypeError at once."""
        return _enqueue_one(self._request(args, kwargs))

    def enqueue_many(self, calls: Iterable[Arguments]) -> Coroutine[Any, Any, list[Execution]]:
        """Enqueue up to 10,000 calls at once, all or none; executions come back in their order."""
        return current_backend().aenqueue(self._requests(calls))


async def _enqueue_one(request: NewExecution) -> Execution:
    return (await current_backend().aenqueue([request]))[0]


def _split(name: str, call: Arguments) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(call, Mapping):
        return (), dict(call)
    if isinstance(call, (tuple, list)):
        return tuple(call), {}
    raise TypeError(
        f"{name}.enqueue_many: a call is a tuple of its arguments, such as [(7,), (8,)], or a dict, not {call!r}"
    )


def _check_call(definition: Definition, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    """Raise the TypeError that calling the function would raise, and one for what is not JSON."""
    signature = _signature(definition.fn)
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        raise TypeError(f"{definition.name}(): {error}") from None
    names = [parameter.name for parameter in signature.parameters.values() if parameter.kind in _POSITIONAL]
    for position, value in enumerate(arguments):
        name = f" ({names[position]})" if position < len(names) else ""
        check(value, f"{definition.name}(): argument {position + 1}{name}")
    for key, value in keywords.items():
        check(value, f"{definition.name}(): argument {key}")


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_signature = functools.lru_cache(maxsize=1024)(inspect.signature)
