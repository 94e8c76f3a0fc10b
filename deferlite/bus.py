"""Events and wake-ups inside the one process. Publishing never blocks and never fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from deferlite.model.events import Event

E = TypeVar("E", bound=Event)


class Bell:
    """A wake-up that cannot be missed: rings between two waits count as one."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = anyio.Event()


class Bus:
    """Hands every published event to those who listen for its type."""

    def __init__(self) -> None:
        self._listeners: dict[type[Event], list[Callable[[Event], None]]] = {}

    def publish(self, event: Event) -> None:
        for listener in tuple(self._listeners.get(type(event), ())):
            listener(event)

    @contextmanager
    def listening(self, kind: type[E], listener: Callable[[E], None]) -> Iterator[None]:
        """Call ``listener`` at once for every event of ``kind`` inside the block. It must not block or raise."""
        listeners = self._listeners.setdefault(kind, [])
        listeners.append(listener)  # type: ignore[arg-type]
        try:
            yield
        finally:
            listeners.remove(listener)  # type: ignore[arg-type]

    @contextmanager
    def subscribe(self, *kinds: type[Event], buffer: float = math.inf) -> Iterator[MemoryObjectReceiveStream[Event]]:
        """A stream of the events of ``kinds``; with a finite ``buffer`` a slow reader misses those that do not fit."""
        streams = anyio.create_memory_object_stream[Event](buffer)
        send: MemoryObjectSendStream[Event] = streams[0]
        receive = streams[1]

        def put(event: Event) -> None:
            with suppress(anyio.WouldBlock, anyio.BrokenResourceError):
                send.send_nowait(event)

        for kind in kinds:
            self._listeners.setdefault(kind, []).append(put)
        try:
            yield receive
        finally:
            for kind in kinds:
                self._listeners[kind].remove(put)
            send.close()
            receive.close()
