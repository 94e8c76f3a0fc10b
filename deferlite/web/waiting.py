"""Waiting for a result, in a way that no workflow can deadlock: a waiting parent gives its slot back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.types import Receive

from deferlite.bus import Bus
from deferlite.model.errors import NotFound
from deferlite.model.events import ParentParked, ParentReady, ParentResumed
from deferlite.model.execution import TERMINAL, Execution
from deferlite.store import Store
from deferlite.web.auth import Principal
from deferlite.web.errors import bad_request

LONGEST_WAIT = 300.0
RESUME_SECONDS = 5.0
"""How long at least the answer to a waiting parent is held back until it has a slot again."""


def parse_wait(text: str | None) -> float:
    """Seconds to wait.

    Raises:
        ApiError: 400.
    """
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT:
        raise bad_request(f"wait: write a number of seconds from 0 to {LONGEST_WAIT:.0f}, such as 30")
    return seconds


@asynccontextmanager
async def parked(bus: Bus, environment: str, execution_id: str) -> AsyncIterator[None]:
    """The running execution waits for something inside the block; ``has_slot`` afterwards gets it a slot again.

    Several waits of one execution are told one by one: the scheduler counts them.
    """
    bus.publish(ParentParked(environment=environment, execution_id=execution_id))
    try:
        yield
    except BaseException:
        bus.publish(ParentReady(environment=environment, execution_id=execution_id))
        raise


async def has_slot(bus: Bus, ready: ParentReady, seconds: float) -> bool:
    """Whether the execution has a slot, after waiting up to ``seconds`` for it."""
    resumed = anyio.Event()

    def listen(event: ParentResumed) -> None:
        if event.execution_id == ready.execution_id:
            resumed.set()

    with bus.listening(ParentResumed, listen):
        bus.publish(ready)
        with anyio.move_on_after(seconds):
            await resumed.wait()
    return resumed.is_set()


async def wait_for(
    store: Store, bus: Bus, principal: Principal, execution: Execution, seconds: float, receive: Receive
) -> Execution | None:
    """``execution`` as soon as it has ended, or as it is after ``seconds``.

    None: it may have ended, but the caller is an execution that gave its slot back for this and has none yet. With an
    answer it would go on beside those that run now, which is one more than may: it has to ask again.

    Raises:
        ApiError: the caller hung up; nobody reads the answer.
    """
    environment, caller = principal.environment, principal.execution_id
    if caller is None:
        return await _wait_ended(store, execution, seconds, receive)
    deadline = anyio.current_time() + seconds
    waits = seconds > 0 and execution.state not in TERMINAL
    if waits:
        async with parked(bus, environment, caller):
            execution = await _wait_ended(store, execution, seconds, receive)
    ready = ParentReady(environment=environment, execution_id=caller, parked=waits)
    left = max(RESUME_SECONDS, deadline - anyio.current_time()) if seconds else 0.0
    return execution if await has_slot(bus, ready, left) else None


async def _wait_ended(store: Store, execution: Execution, seconds: float, receive: Receive) -> Execution:
    if not seconds or execution.state in TERMINAL:
        return execution
    ended: Execution | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_on_disconnect, receive, tasks.cancel_scope)
        try:
            ended = await store.executions.wait_ended(execution.id, seconds)
        except NotFound:
            # Pruned meanwhile: the next question is answered with 404.
            ended = execution
        tasks.cancel_scope.cancel()
    if ended is None:
        raise bad_request("the caller hung up")
    return ended


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
