"""Events of the bus as streams over HTTP: for programs each one, for pages a hint that something changed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache, partial
from typing import Any

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from deferlite.bus import Bell, Bus
from deferlite.model.events import (
    AbortRequested,
    BuildCancelRequested,
    BuildChanged,
    BuildLogged,
    BuildPublished,
    BuildRequested,
    EnvironmentChanged,
    Event,
    ExecutionChanged,
    ExecutionLogged,
    ExecutionsEnqueued,
    ParentParked,
    ParentReady,
    ParentResumed,
    RepositoryPushed,
)

CHANGES = (ExecutionsEnqueued, ExecutionChanged, BuildRequested, BuildChanged, BuildPublished, EnvironmentChanged)
"""What alters a page; log lines are hinted at on their own."""
LOGGED = (ExecutionLogged, BuildLogged)
EVERY = (
    *CHANGES,
    *LOGGED,
    AbortRequested,
    BuildCancelRequested,
    ParentParked,
    ParentReady,
    ParentResumed,
    RepositoryPushed,
)

PACE = 0.25
"""Seconds between two hints to one page."""
_SILENCE = 15.0
"""Seconds after which a comment is sent, so that proxies keep the connection."""
_BUFFER = 10_000
"""Events held for a slow reader; what does not fit is missed, as hints may be."""
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class LiveResponse(StreamingResponse):
    """A stream that ends when the client hangs up, even while there is nothing to send."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as tasks:

            async def end_with_client() -> None:
                await self.listen_for_disconnect(receive)
                tasks.cancel_scope.cancel()

            tasks.start_soon(end_with_client)
            try:
                with suppress(OSError):
                    await self.stream_response(send)
            finally:
                tasks.cancel_scope.cancel()
                await self._close()

    async def _close(self) -> None:
        # A generator that is left suspended would keep its subscription until it is collected.
        close = getattr(self.body_iterator, "aclose", None)
        if close is not None:
            with anyio.CancelScope(shield=True):
                await close()


@contextmanager
def ringing(bus: Bus, kinds: tuple[type[Event], ...], matches: Callable[[Any], bool]) -> Iterator[Bell]:
    """A bell that rings at every event of ``kinds`` that ``matches``."""
    bell = Bell()

    def hear(event: Event) -> None:
        if matches(event):
            bell.ring()

    with _listening(bus, kinds, hear):
        yield bell


@contextmanager
def _listening(bus: Bus, kinds: tuple[type[Event], ...], hear: Callable[[Any], None]) -> Iterator[None]:
    with ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(bus.listening(kind, hear))
        yield


def sse(content: AsyncIterator[str]) -> LiveResponse:
    """A response of server-sent events."""
    return LiveResponse(content, headers=HEADERS, media_type="text/event-stream")


def kind_of(event: Event) -> str:
    """The event's name on the wire: ``execution_changed``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()


async def each_event(bus: Bus) -> AsyncIterator[str]:
    """One message per event, with its fields as JSON."""
    with bus.subscribe(*EVERY, buffer=_BUFFER) as events:
        yield ": deferlite\n\n"
        while True:
            event: Event | None = None
            with anyio.move_on_after(_SILENCE):
                event = await events.receive()
            yield _message(event) if event else ":\n\n"


@lru_cache(maxsize=1024)
def _message(event: Event) -> str:
    # Open streams take turns: the first that comes to an event encodes it for all.
    return f"event: {kind_of(event)}\ndata: {msgspec.json.encode(event).decode()}\n\n"


class Topic(msgspec.Struct, frozen=True):
    """What a page is about; empty fields take everything."""

    environment: str = ""
    log: str = ""
    """Id of the execution or build whose log the page shows."""

    def changes(self, event: Event) -> bool:
        return not self.environment or event.environment in ("", self.environment)

    def logs(self, event: ExecutionLogged | BuildLogged) -> bool:
        return bool(self.log) and self.log == _subject(event)


def _subject(event: ExecutionLogged | BuildLogged) -> str:
    return event.execution_id if isinstance(event, ExecutionLogged) else event.build_id


async def hints(bus: Bus, topic: Topic) -> AsyncIterator[str]:
    """``changed`` and ``logged`` messages without content, at most one of each per ``PACE``."""
    raised: set[str] = set()
    bell = Bell()

    def hear(name: str, matches: Callable[[Any], bool], event: Any) -> None:
        if matches(event):
            raised.add(name)
            bell.ring()

    with (
        _listening(bus, CHANGES, partial(hear, "changed", topic.changes)),
        _listening(bus, LOGGED, partial(hear, "logged", topic.logs)),
    ):
        # The first message makes the page read what happened between its making and this subscription.
        yield f"retry: 1000\n{_hint('changed')}"
        while True:
            with anyio.move_on_after(_SILENCE):
                await bell.wait()
            text = "".join(map(_hint, sorted(raised)))
            raised.clear()
            yield text or ":\n\n"
            await anyio.sleep(PACE)


def _hint(name: str) -> str:
    return f"event: {name}\ndata: 1\n\n"


def topic_of(request: Request) -> Topic:
    query = request.query_params
    return Topic(query.get("environment", ""), query.get("log", ""))
