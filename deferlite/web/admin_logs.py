"""Logs as JSON lines: what there is, and with ``follow`` what comes until the build or the execution has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager

from starlette.requests import Request
from starlette.responses import Response

from deferlite.bus import Bell
from deferlite.model.events import BuildChanged, BuildLogged, ExecutionChanged, ExecutionLogged
from deferlite.model.execution import TERMINAL
from deferlite.web.admin_filters import flag, log_position
from deferlite.web.events import HEADERS, LiveResponse, ringing
from deferlite.web.services import Services
from deferlite.web.wire import log_line

CHUNK = 1000
"""Lines read from the store at a time."""
Reader = Callable[[int], Awaitable[list[tuple[int, str]]]]
"""(after_seq) -> (seq, line of NDJSON), at most CHUNK."""
Ended = Callable[[], Awaitable[bool]]


async def execution_log(services: Services, request: Request, execution_id: str) -> Response:
    """The log of all attempts. Raises NotFound."""
    store = services.store

    async def read(after: int) -> list[tuple[int, str]]:
        lines = await store.logs.read(execution_id, after_seq=after, limit=CHUNK)
        return [(seq, log_line(seq, attempt, line)) for seq, attempt, line in lines]

    async def ended() -> bool:
        return (await store.executions.get(None, execution_id)).state in TERMINAL

    kinds = (ExecutionLogged, ExecutionChanged)
    bell = ringing(services.bus, kinds, lambda event: event.execution_id == execution_id)
    return await _answer(request, read, ended, bell)


async def build_log(services: Services, request: Request, build_id: str) -> Response:
    """The log of a build. Raises NotFound."""
    store = services.store

    async def read(after: int) -> list[tuple[int, str]]:
        lines = await store.logs.read_build(build_id, after_seq=after, limit=CHUNK)
        return [(seq, log_line(seq, None, line)) for seq, line in lines]

    async def ended() -> bool:
        return (await store.builds.get(build_id)).finished_at is not None

    bell = ringing(services.bus, (BuildLogged, BuildChanged), lambda event: event.build_id == build_id)
    return await _answer(request, read, ended, bell)


async def _answer(request: Request, read: Reader, ended: Ended, ring: AbstractContextManager[Bell]) -> Response:
    after, follow = log_position(request.query_params), flag(request.query_params, "follow")
    # Before the answer begins: what is not there is 404.
    await ended()

    async def content() -> AsyncIterator[str]:
        with ring as bell:
            async for text in _lines(read, ended, bell if follow else None, after):
                yield text

    return LiveResponse(content(), headers=HEADERS, media_type="application/x-ndjson")


async def _lines(read: Reader, ended: Ended, bell: Bell | None, after: int) -> AsyncIterator[str]:
    while True:
        # Asked before the lines are read: all of them are written before the end is.
        over = bell is None or await ended()
        while lines := await read(after):
            after = lines[-1][0]
            yield "".join(text for _, text in lines)
        if over or bell is None:
            return
        await bell.wait()
