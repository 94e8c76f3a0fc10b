"""Logs as JSON lines: what there is, and with ``follow`` what comes until the build or the execution has ended."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from deferlite.bus import Bell
from deferlite.model.build import Build, BuildStep
from deferlite.model.clock import SECOND, to_rfc3339
from deferlite.model.events import BuildChanged, BuildLogged, ExecutionChanged, ExecutionLogged
from deferlite.model.execution import TERMINAL, LogLine
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
    """The log of a build; ``?stages=1``: with a line of its own for every stage that has ended. Raises NotFound."""
    store = services.store
    stages = _Stages() if flag(request.query_params, "stages") else None

    async def read(after: int) -> list[tuple[int, str]]:
        # The build first: all of its lines are stored before its end is.
        build = await store.builds.get(build_id) if stages else None
        lines = await store.logs.read_build(build_id, after_seq=after, limit=CHUNK)
        if stages is None or build is None:
            return [(seq, log_line(seq, None, line)) for seq, line in lines]
        return stages.among(build, lines, after)

    async def ended() -> bool:
        return (await store.builds.get(build_id)).finished_at is not None

    bell = ringing(services.bus, (BuildLogged, BuildChanged), lambda event: event.build_id == build_id)
    return await _answer(request, read, ended, bell)


class _Stages:
    """Puts the ends of a build's stages between the lines of its log, each once."""

    def __init__(self) -> None:
        self._told = 0

    def among(self, build: Build, lines: Sequence[tuple[int, LogLine]], after: int) -> list[tuple[int, str]]:
        """``lines`` and the stages that have ended by then, in the order of time."""
        whole = build.finished_at is not None and len(lines) < CHUNK
        # Lines are stored a while after they were written: until a later one is seen, more of a stage may come.
        seen = lines[-1][1].time if lines else 0
        left = build.steps[self._told :]
        ended = [step for step in left if step.finished_at and (whole or step.finished_at < seen)]
        self._told += len(ended)
        texts = heapq.merge(
            ((line.time, log_line(seq, None, line)) for seq, line in lines),
            ((step.finished_at or 0, _stage_line(step)) for step in ended),
            key=lambda pair: pair[0],
        )
        newest = lines[-1][0] if lines else after
        return [(newest, text) for _, text in texts]


def _stage_line(step: BuildStep) -> str:
    """One line of NDJSON: a stage and for how long it went, in seconds."""
    finished = step.finished_at or step.started_at
    body = {"stage": step.state, "time": to_rfc3339(finished), "seconds": (finished - step.started_at) / SECOND}
    return msgspec.json.encode(body).decode() + "\n"


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
