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
"""How long the answer to a parked parent is held back until it has a slot again."""


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
    """The running execution waits for something inside the block; after it, it has a slot again.

    Several waits of one execution are told one by one: the scheduler counts them.
    """
    bus.publish(ParentParked(environment=environment, execution_id=execution_id))
    try:
        yield
    except BaseException:
        bus.publish(ParentReady(environment=environment, execution_id=execution_id))
        raise
    await _resume(bus, environment, execution_id)


async def _resume(bus: Bus, environment: str, execution_id: str) -> None:
    resumed = anyio.Event()

    def listen(event: ParentResumed) -> None:
        if event.execution_id == execution_id:
            resumed.set()

    with bus.listening(ParentResumed, listen):
        bus.publish(ParentReady(environment=environment, execution_id=execution_id))
        with anyio.move_on_after(RESUME_SECONDS):
            await resumed.wait()


async def wait_for(
    store: Store, bus: Bus, principal: Principal, execution: Execution, seconds: float, receive: Receive
) -> Execution:
    """``execution`` as soon as it has ended, or as it is after ``seconds``.

    Raises:
        ApiError: the caller hung up; nobody reads the answer.
    """
    if not seconds or execution.state in TERMINAL:
        return execution
    if principal.execution_id is None:
        return await _wait_ended(store, execution, seconds, receive)
    async with parked(bus, principal.environment, principal.execution_id):
        return await _wait_ended(store, execution, seconds, receive)


async def _wait_ended(store: Store, execution: Execution, seconds: float, receive: Receive) -> Execution:
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
