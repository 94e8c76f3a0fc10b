"""Waiting for executions, and asking about them. Each call has a twin for coroutines, named with an ``a`` in front."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, ParamSpec, TypeVar, overload

from deferlite.sdk.backends import current_backend
from deferlite.sdk.durations import Duration, Moment, parse_duration, parse_moment
from deferlite.sdk.executions import Execution, NewExecution, Page, Query, format_time
from deferlite.sdk.functions import AsyncBackgroundFunction, Background, BackgroundFunction

P = ParamSpec("P")
R = TypeVar("R")
Function = TypeVar("Function", bound=Background[..., Any])


def assign_options(
    fn: Function,
    /,
    *,
    delay: Moment | None = None,
    metadata: Mapping[str, str] | None = None,
    discard_after: Moment | None = None,
    priority: int | None = None,
    idempotency_key: str | None = None,
    concurrency_key: str | None = None,
) -> Function:
    """``fn.options(…)`` in Defer's words."""
    return _background(fn, "assign_options").options(
        delay=delay,
        metadata=metadata,
        discard_after=discard_after,
        priority=priority,
        idempotency_key=idempotency_key,
        concurrency_key=concurrency_key,
    )


@overload
def await_result(
    fn: AsyncBackgroundFunction[P, R], /, *, timeout: Duration | None = None
) -> Callable[P, Coroutine[Any, Any, R]]: ...


@overload
def await_result(fn: BackgroundFunction[P, R], /, *, timeout: Duration | None = None) -> Callable[P, R]: ...


def await_result(fn: Any, /, *, timeout: Duration | None = None) -> Any:
    """A function that enqueues a call of ``fn``, waits for its end and returns its value; async for an async ``fn``.

    Without ``timeout`` it waits as long as it takes. With one it raises ``ResultNotReady`` when that is over, and the
    execution goes on.

    Raises (when called):
        ExecutionFailed: the function raised; of the class of its error as well, where that is a built-in one.
        ExecutionCancelled, ExecutionAborted, ExecutionDiscarded: there will be no result.
    """
    seconds = math.inf if timeout is None else parse_duration(timeout)
    _background(fn, "await_result")
    carry_out = _await_async if isinstance(fn, AsyncBackgroundFunction) else _await

    def wait(*args: Any, **kwargs: Any) -> Any:
        return carry_out(fn._request(args, kwargs, awaited=True), seconds)

    return functools.update_wrapper(wait, fn._definition.fn)


def _await(request: NewExecution, timeout: float) -> Any:
    backend = current_backend()
    [execution] = backend.enqueue([request])
    return backend.result(execution.id, timeout)


async def _await_async(request: NewExecution, timeout: float) -> Any:
    backend = current_backend()
    [execution] = await backend.aenqueue([request])
    return await backend.aresult(execution.id, timeout)


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
    return current_backend().result(_id(execution_id), parse_duration(wait))


async def aget_execution_result(execution_id: str, *, wait: Duration = 0) -> Any:
    """``get_execution_result`` for coroutines."""
    return await current_backend().aresult(_id(execution_id), parse_duration(wait))


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
    filters = {
        "states": _texts("states", states),
        "function_ids": _texts("function_ids", function_ids),
        "error_codes": _texts("error_codes", error_codes),
        "scheduled_at": _interval(scheduled_from, scheduled_to),
        "started_at": _interval(started_from, started_to),
        "executed_by": executed_by,
        "metadata": [
            {"key": key, "values": [value] if isinstance(value, str) else list(value)}
            for key, value in (metadata or {}).items()
        ],
    }
    return current_backend().find(_query(filters, first=first, after=after, last=last, before=before))


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
    query = _query({"states": _texts("states", states)}, first=first, after=after, last=last, before=before)
    return current_backend().attempts(_id(execution_id), query)


def _twin(call: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """``call`` as a coroutine function: it runs in a thread."""

    async def twin(*args: P.args, **kwargs: P.kwargs) -> R:
        import asyncio

        return await asyncio.to_thread(call, *args, **kwargs)

    twin.__doc__ = f"``{getattr(call, '__name__', '')}`` for coroutines.\n\n{call.__doc__}"
    return twin


aget_execution = _twin(get_execution)
acancel_execution = _twin(cancel_execution)
areschedule_execution = _twin(reschedule_execution)
arerun_execution = _twin(rerun_execution)
alist_executions = _twin(list_executions)
alist_execution_attempts = _twin(list_execution_attempts)


def _background(fn: Function, caller: str) -> Function:
    if not isinstance(fn, Background):
        raise TypeError(f"{caller} takes a background function, not {fn!r}: decorate it with @defer")
    return fn


def _id(execution_id: object) -> str:
    if not isinstance(execution_id, str) or not execution_id:
        raise TypeError(f"an execution is asked for by its id, a string such as execution.id, not {execution_id!r}")
    return execution_id


def _texts(name: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{name} is a list, such as {name}=[{values!r}]")
    return list(values)


def _interval(start: datetime | None, end: datetime | None) -> dict[str, str]:
    return {name: format_time(moment) for name, moment in (("from", start), ("to", end)) if moment is not None}


def _query(filters: Mapping[str, Any], **page: int | str | None) -> Query:
    return {
        "page": {name: value for name, value in page.items() if value is not None},
        "filters": {name: value for name, value in filters.items() if value},
    }
