"""Logs as JSON lines: what there is, and with ``follow`` what comes until the build or the execution has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from deferlite.bus import Bell
from deferlite.model.events import BuildChanged, BuildLogged, ExecutionChanged, ExecutionLogged
from deferlite.model.execution import TERMINAL
from deferlite.web.admin_shapes import log_line
from deferlite.web.errors import bad_request
from deferlite.web.events import LiveResponse, ringing
from deferlite.web.services import Services

CHUNK = 1000
"""Lines read from the store at a time."""
Reader = Callable[[int], Awaitable[list[tuple[int, str]]]]
"""(after_seq) -> (seq, line of NDJSON), at most CHUNK."""


async def execution_log(services: Services, request: Request, execution_id: str) -> Response:
    """The log of all attempts. Raises NotFound."""
    store = services.store
    await store.executions.get(None, execution_id)

    async def read(after: int) -> list[tuple[int, str]]:
        lines = await store.logs.read(execution_id, after_seq=after, limit=CHUNK)
        return [(seq, log_line(seq, line, attempt)) for seq, attempt, line in lines]

    async def ended() -> bool:
        return (await store.executions.get(None, execution_id)).state in TERMINAL

    async def content() -> AsyncIterator[str]:
        kinds = (ExecutionLogged, ExecutionChanged)
        with ringing(services.bus, kinds, lambda event: event.execution_id == execution_id) as bell:
            async for text in _lines(read, ended, bell if _follow(request) else None, after):
                yield text

    after = _after(request)
    return _ndjson(content())


async def build_log(services: Services, request: Request, build_id: str) -> Response:
    """The log of a build. Raises NotFound."""
    store = services.store
    await store.builds.get(build_id)

    async def read(after: int) -> list[tuple[int, str]]:
        lines = await store.logs.read_build(build_id, after_seq=after, limit=CHUNK)
        return [(seq, log_line(seq, line)) for seq, line in lines]

    async def ended() -> bool:
        return (await store.builds.get(build_id)).finished_at is not None

    async def content() -> AsyncIterator[str]:
        kinds = (BuildLogged, BuildChanged)
        with ringing(services.bus, kinds, lambda event: event.build_id == build_id) as bell:
            async for text in _lines(read, ended, bell if _follow(request) else None, after):
                yield text

    after = _after(request)
    return _ndjson(content())


async def _lines(
    read: Reader, ended: Callable[[], Awaitable[bool]], bell: Bell | None, after: int
) -> AsyncIterator[str]:
    while True:
        # Asked before the lines are read: all of them are written before the end is.
        over = bell is None or await ended()
        while lines := await read(after):
            after = lines[-1][0]
            yield "".join(text for _, text in lines)
        if over or bell is None:
            return
        await bell.wait()


def _ndjson(content: AsyncIterator[str]) -> Response:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return LiveResponse(content, headers=headers, media_type="application/x-ndjson")


def _follow(request: Request) -> bool:
    return request.query_params.get("follow", "") not in ("", "0", "false")


def _after(request: Request) -> int:
    text = request.query_params.get("after", "0")
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise bad_request(f"after is the seq of a line, a whole number, not {text[:40]!r}")
    return int(text)
