"""Background functions: objects whose call puts the function's call into a queue.

There are two pairs of classes, for functions and for coroutine functions: what ``defer`` returns, and what
``options`` makes of it. Only the former carries ``__fn__`` and ``__metadata__``, by which the builder finds it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Generic, ParamSpec, TypeVar

from deferlite.sdk.backends import LONGEST_BATCH, current_backend
from deferlite.sdk.durations import Moment, parse_moment
from deferlite.sdk.executions import Execution, NewExecution
from deferlite.sdk.options import CallOptions, Definition
from deferlite.sdk.payload import check_arguments

P = ParamSpec("P")
R = TypeVar("R")
Arguments = Sequence[Any] | Mapping[str, Any]
"""The arguments of one call of ``enqueue_many``: a tuple or list of positional ones, or a dict of named ones."""


class _Caller:
    """What all four classes share: a function, the options of its calls, and the making of requests."""

    def __init__(self, definition: Definition, options: CallOptions) -> None:
        self._definition = definition
        self._options = options

    def _request(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> NewExecution:
        definition, options = self._definition, self._options
        _check_call(definition, arguments, keywords)
        now = datetime.now(timezone.utc)
        return NewExecution(
            definition=definition,
            arguments=arguments,
            keyword_arguments=keywords,
            scheduled_at=None if options.delay is None else parse_moment(options.delay, now),
            discard_at=None if options.discard_after is None else parse_moment(options.discard_after, now),
            metadata=options.metadata,
            priority=options.priority,
            idempotency_key=options.idempotency_key,
            concurrency_key=options.concurrency_key,
        )

    def _requests(self, calls: Iterable[Arguments]) -> list[NewExecution]:
        if self._options.idempotency_key is not None:
            raise ValueError("idempotency_key names one execution: enqueue_many makes several, leave it out")
        found = [self._request(*_split(self._definition.name, item)) for item in calls]
        if len(found) > LONGEST_BATCH:
            raise ValueError(f"enqueue_many takes at most {LONGEST_BATCH:,} calls at once, not {len(found):,}")
        return found

    def _with(self, **options: Any) -> CallOptions:
        return replace(self._options, **{name: value for name, value in options.items() if value is not None})

    def __repr__(self) -> str:
        return f"<background function {self._definition.name}>"


class BackgroundCall(_Caller, Generic[P, R]):
    """A background function together with options for its calls."""

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

    def options(
        self,
        *,
        delay: Moment | None = None,
        metadata: Mapping[str, str] | None = None,
        discard_after: Moment | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
        concurrency_key: str | None = None,
    ) -> BackgroundCall[P, R]:
        """The same function, with these options for its calls. Options not given stay as they are.

        ``delay`` and ``discard_after`` are durations counted from the call, or moments. ``metadata`` holds up to 25
        pairs of strings. A higher ``priority`` (-100 to 100) starts first. Calls with the same ``idempotency_key``
        within 24 hours are one execution. Executions with the same ``concurrency_key`` run one after another.
        """
        return BackgroundCall(
            self._definition,
            self._with(
                delay=delay,
                metadata=metadata,
                discard_after=discard_after,
                priority=priority,
                idempotency_key=idempotency_key,
                concurrency_key=concurrency_key,
            ),
        )


class AsyncBackgroundCall(_Caller, Generic[P, R]):
    """A background coroutine function together with options for its calls."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Execution]:
        """Enqueue a call, once awaited, and return its execution. Wrong arguments are a TypeError at once."""
        return _enqueue_one(self._request(args, kwargs))

    def enqueue_many(self, calls: Iterable[Arguments]) -> Coroutine[Any, Any, list[Execution]]:
        """Enqueue up to 10,000 calls at once, all or none; executions come back in their order."""
        return _enqueue_all(self._requests(calls))

    def options(
        self,
        *,
        delay: Moment | None = None,
        metadata: Mapping[str, str] | None = None,
        discard_after: Moment | None = None,
        priority: int | None = None,
        idempotency_key: str | None = None,
        concurrency_key: str | None = None,
    ) -> AsyncBackgroundCall[P, R]:
        """The same function, with these options for its calls: see ``BackgroundCall.options``."""
        return AsyncBackgroundCall(
            self._definition,
            self._with(
                delay=delay,
                metadata=metadata,
                discard_after=discard_after,
                priority=priority,
                idempotency_key=idempotency_key,
                concurrency_key=concurrency_key,
            ),
        )


class BackgroundFunction(BackgroundCall[P, R]):
    """What ``defer`` makes of a function: calling it enqueues."""

    __fn__: Callable[P, R]
    __metadata__: dict[str, Any]
    __name__: str

    def __init__(self, definition: Definition) -> None:
        super().__init__(definition, CallOptions())
        _dress(self, definition)

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now, as if it had never been deferred."""
        return self.__fn__(*args, **kwargs)

    def __reduce__(self) -> str:
        return _global_name(self)


class AsyncBackgroundFunction(AsyncBackgroundCall[P, R]):
    """What ``defer`` makes of a coroutine function: awaiting its call enqueues."""

    __fn__: Callable[P, Coroutine[Any, Any, R]]
    __metadata__: dict[str, Any]
    __name__: str

    def __init__(self, definition: Definition) -> None:
        super().__init__(definition, CallOptions())
        _dress(self, definition)

    def run(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """The function's own coroutine, as if it had never been deferred."""
        return self.__fn__(*args, **kwargs)

    def __reduce__(self) -> str:
        return _global_name(self)


def _dress(wrapper: Any, definition: Definition) -> None:
    functools.update_wrapper(wrapper, definition.fn)
    wrapper.__fn__ = definition.fn
    wrapper.__metadata__ = definition.metadata()


def _global_name(wrapper: _Caller) -> str:
    """Pickled by reference, as functions are."""
    return str(vars(wrapper).get("__qualname__", wrapper._definition.name))


async def _enqueue_one(request: NewExecution) -> Execution:
    return (await current_backend().aenqueue([request]))[0]


async def _enqueue_all(requests: list[NewExecution]) -> list[Execution]:
    return await current_backend().aenqueue(requests)


def _split(name: str, item: Arguments) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(item, Mapping):
        return (), item
    if isinstance(item, (tuple, list)):
        return tuple(item), {}
    raise TypeError(
        f"{name}.enqueue_many: a call is a tuple of its arguments, such as [(7,), (8,)], or a dict, not {item!r}"
    )


def _check_call(definition: Definition, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    """Raise the TypeError that calling the function would raise, and one for what is not JSON."""
    signature = _signature(definition.fn)
    if signature is not None:
        try:
            signature.bind(*arguments, **keywords)
        except TypeError as error:
            raise TypeError(f"{definition.name}(): {error}") from None
    names = [] if signature is None else _positional_names(signature)
    check_arguments(definition.name, names, arguments, keywords)


@functools.lru_cache(maxsize=1024)
def _signature(fn: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(fn)
    except ValueError:  # Some built-in functions have none to tell.
        return None


def _positional_names(signature: inspect.Signature) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in signature.parameters.values() if parameter.kind in kinds]
