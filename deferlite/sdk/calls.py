"""Waiting for executions, and asking about them. Each call has a twin for coroutines, named with an ``a`` in front."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, ParamSpec, TypeVar, overload

from deferlite.sdk.backends import Backend, current_backend
from deferlite.sdk.durations import Duration, Moment, parse_duration, parse_moment
from deferlite.sdk.errors import ResultNotReady, execution_failed, never_a_result
from deferlite.sdk.executions import Ended, Execution, NewExecution, Page, Query
from deferlite.sdk.functions import AsyncBackgroundCall, BackgroundCall

P = ParamSpec("P")
R = TypeVar("R")


@overload
def assign_options(
    fn: AsyncBackgroundCall[P, R],
    /,
    *,
    delay: Moment | None = None,
    metadata: Mapping[str, str] | None = None,
    discard_after: Moment | None = None,
    priority: int | None = None,
    idempotency_key: str | None = None,
    concurrency_key: str | None = None,
) -> AsyncBackgroundCall[P, R]: ...


@overload
def assign_options(
    fn: BackgroundCall[P, R],
    /,
    *,
    delay: Moment | None = None,
    metadata: Mapping[str, str] | None = None,
    discard_after: Moment | None = None,
    priority: int | None = None,
    idempotency_key: str | None = None,
    concurrency_key: str | None = None,
) -> BackgroundCall[P, R]: ...


def assign_options(fn: Any, /, **options: Any) -> Any:
    """``fn.options(…)`` in Defer's words."""
    return _background(fn, "assign_options").options(**options)


@overload
def await_result(
    fn: AsyncBackgroundCall[P, R], /, *, timeout: Duration | None = None
) -> Callable[P, Coroutine[Any, Any, R]]: ...


@overload
def await_result(fn: BackgroundCall[P, R], /, *, timeout: Duration | None = None) -> Callable[P, R]: ...


def await_result(fn: Any, /, *, timeout: Duration | None = None) -> Any:
    """A function that enqueues a call of ``fn``, waits for its end and returns its value; async for an async ``fn``.

    Without ``timeout`` it waits as long as it takes. With one it raises ``ResultNotReady`` when that is over, and the
    execution goes on.

    Raises (when called):
        ExecutionFailed: the function raised; of the class of its error as well, where that is a built-in one.
        ExecutionCancelled, ExecutionAborted, ExecutionDiscarded: there will be no result.
    """
    seconds = math.inf if timeout is None else parse_duration(timeout)
    call = _background(fn, "await_result")

    def wait(*args: Any, **kwargs: Any) -> Any:
        backend = current_backend()
        execution = backend.enqueue([_awaited(call, args, kwargs)])[0]
        return _value(backend, execution.id, backend.outcome(execution.id, seconds))

    async def wait_in_loop(request: NewExecution) -> Any:
        backend = current_backend()
        execution = (await backend.aenqueue([request]))[0]
        return await _avalue(backend, execution.id, await backend.aoutcome(execution.id, seconds))

    def wait_async(*args: Any, **kwargs: Any) -> Any:
        return wait_in_loop(_awaited(call, args, kwargs))

    waiting = wait_async if isinstance(call, AsyncBackgroundCall) else wait
    return functools.update_wrapper(waiting, call._definition.fn)


def get_execution(execution_id: str) -> Execution:
    """The execution as it is now. Raises ``NotFound`` where there is none."""
    return current_backend().get(_id(execution_id))


def get_execution_result(execution_id: str, *, wait: Duration = 0) -> Any:
    """What the execution returned; waits for it up to ``wait``.

    Raises:
        ResultNotReady: it has not ended yet.
        ExecutionFailed, ExecutionCancelled, ExecutionAborted, ExecutionDiscarded: it ended without a value.
        NotFound: there is no such execution.
    """
    backend = current_backend()
    return _value(backend, execution_id, backend.outcome(_id(execution_id), parse_duration(wait)))


def cancel_execution(execution_id: str, force: bool = False) -> Execution:
    """Cancel an execution that has not started; with ``force`` also stop one that runs.

    Raises ``Conflict`` if it has started (without ``force``) or ended.
    """
    return current_backend().cancel(_id(execution_id), force)


def reschedule_execution(execution_id: str, schedule_for: Moment | None = None) -> Execution:
    """Start the execution at another time: a duration from now or a moment; None means now.

    Raises ``Conflict`` if it has started or ended.
    """
    moment = None if schedule_for is None else parse_moment(schedule_for, datetime.now(timezone.utc))
    return current_backend().reschedule(_id(execution_id), moment)


def rerun_execution(execution_id: str) -> Execution:
    """Run the same call once more, as a new execution."""
    return current_backend().rerun(_id(execution_id))


def list_executions(
    *,
    states: Iterable[str] = (),
    function_ids: Iterable[str] = (),
    error_codes: Iterable[str] = (),
    scheduled_from: datetime | None = None,
    scheduled_to: datetime | None = None,
    started_from: datetime | None = None,
    started_to: datetime | None = None,
    executed_by: str | None = None,
    metadata: Mapping[str, str | Iterable[str]] | None = None,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    before: str | None = None,
) -> Page[Execution]:
    """A page of executions, newest first.

    Values of one filter are alternatives, different filters narrow; a metadata filter holds one value or several.
    ``first`` with ``after`` goes on to older ones, ``last`` with ``before`` back to newer ones.
    """
    query = Query(
        states=_texts("states", states),
        function_ids=_texts("function_ids", function_ids),
        error_codes=_texts("error_codes", error_codes),
        scheduled_from=scheduled_from,
        scheduled_to=scheduled_to,
        started_from=started_from,
        started_to=started_to,
        executed_by=executed_by,
        metadata={key: _alternatives(value) for key, value in (metadata or {}).items()},
        **_paging(first, after, last, before),
    )
    return current_backend().find(query)


def list_execution_attempts(
    execution_id: str,
    *,
    states: Iterable[str] = (),
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    before: str | None = None,
) -> Page[Execution]:
    """A page of the execution's attempts, newest first: ``attempt`` is the number of each."""
    query = Query(states=_texts("states", states), **_paging(first, after, last, before))
    return current_backend().attempts(_id(execution_id), query)


def _twin(call: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """``call`` as a coroutine function: it runs in a thread."""

    async def twin(*args: P.args, **kwargs: P.kwargs) -> R:
        import asyncio

        return await asyncio.to_thread(call, *args, **kwargs)

    name = f"a{getattr(call, '__name__', '')}"
    twin.__name__, twin.__qualname__, twin.__module__ = name, name, __name__
    twin.__doc__ = f"``{name[1:]}`` for coroutines.\n\n{call.__doc__}"
    return twin


aget_execution = _twin(get_execution)
acancel_execution = _twin(cancel_execution)
areschedule_execution = _twin(reschedule_execution)
arerun_execution = _twin(rerun_execution)
alist_executions = _twin(list_executions)
alist_execution_attempts = _twin(list_execution_attempts)


async def aget_execution_result(execution_id: str, *, wait: Duration = 0) -> Any:
    """``get_execution_result`` for coroutines."""
    backend = current_backend()
    ended = await backend.aoutcome(_id(execution_id), parse_duration(wait))
    return await _avalue(backend, execution_id, ended)


def _value(backend: Backend, execution_id: str, ended: Ended | None) -> Any:
    """The value of an ended execution, or the exception that says why there is none."""
    if ended is None:
        raise ResultNotReady(f"execution {execution_id} has not ended yet: ask again later, or wait longer")
    if ended.state == "succeed":
        return ended.value
    execution = ended.execution or backend.get(execution_id)
    if ended.state == "failed":
        raise execution_failed(ended.value, execution)
    raise never_a_result(execution)


async def _avalue(backend: Backend, execution_id: str, ended: Ended | None) -> Any:
    if ended is None or ended.state == "succeed" or ended.execution is not None:
        return _value(backend, execution_id, ended)
    import asyncio

    return await asyncio.to_thread(_value, backend, execution_id, ended)


def _awaited(call: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NewExecution:
    request: NewExecution = call._request(args, kwargs)
    return replace(request, awaited=True)


def _background(fn: object, caller: str) -> BackgroundCall[..., Any] | AsyncBackgroundCall[..., Any]:
    if not isinstance(fn, (BackgroundCall, AsyncBackgroundCall)):
        raise TypeError(f"{caller} takes a background function, not {fn!r}: decorate it with @defer")
    return fn


def _id(execution_id: object) -> str:
    if not isinstance(execution_id, str) or not execution_id:
        raise TypeError(f"an execution is asked for by its id, a string such as execution.id, not {execution_id!r}")
    return execution_id


def _texts(name: str, values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError(f"{name} is a list, such as {name}=[{values!r}]")
    return tuple(values)


def _alternatives(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _paging(first: int | None, after: str | None, last: int | None, before: str | None) -> dict[str, Any]:
    for name, value in (("first", first), ("last", last)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} is a whole number from 1, not {value!r}")
    return {"first": first, "after": after, "last": last, "before": before}
