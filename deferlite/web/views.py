"""What each page shows, read from the store: the contexts of the templates."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from deferlite.model.binding import signature
from deferlite.model.build import Build, BuildState, word_of
from deferlite.model.clock import SECOND
from deferlite.model.environment import WHY_ENDED, Environment, EnvironmentState
from deferlite.model.execution import TERMINAL, ErrorCode, ErrorObject, Execution, LogLine, State
from deferlite.model.function import Function, FunctionSpec
from deferlite.store import ExecutionFilter, Page, PageRequest
from deferlite.store.overview import Glance
from deferlite.web import words
from deferlite.web.admin_builds import live_build
from deferlite.web.admin_environments import not_yet
from deferlite.web.admin_shapes import masked
from deferlite.web.admin_waiting import why_it_waits
from deferlite.web.services import Services

LAST = 12
"""Builds or executions in a short list."""
SHOWN_OPEN = 5
"""As many previews of an environment are listed at once; more are folded away."""
LOG_LINES = 2000
"""Lines of a log on one page."""
TAIL = 15
"""Lines shown of a stage that failed."""
USUAL_STEPS = (
    BuildState.STARTED,
    BuildState.CLONING,
    BuildState.INSTALLING,
    BuildState.COMPILING,
    BuildState.PUBLISHING,
)
_ATTEMPTS = 100


class Counted(msgspec.Struct, frozen=True):
    """A row with the number of its executions in each state."""

    counts: dict[State, int]

    @property
    def running(self) -> int:
        return self.counts.get(State.STARTED, 0) + self.counts.get(State.ABORTING, 0)

    @property
    def queued(self) -> int:
        return self.counts.get(State.CREATED, 0)

    @property
    def failed(self) -> int:
        return self.counts.get(State.FAILED, 0)


class EnvironmentRow(Counted, frozen=True, kw_only=True):
    environment: Environment
    live: Build | None
    newest: Build | None
    functions: int
    previews: tuple[EnvironmentRow, ...] = ()

    @property
    def state(self) -> str:
        here, live = self.environment, self.live is not None
        return words.environment_word(
            retired=here.state == "retired",
            error=here.error,
            problem=here.problem,
            newest=word_of(self.newest) if self.newest else None,
            live=live,
            pinned=here.pinned,
        )

    @property
    def previews_by_state(self) -> list[tuple[str, int]]:
        """What its previews come to, the commonest first."""
        return Counter(row.state for row in self.previews).most_common()


class FunctionRow(Counted, frozen=True, kw_only=True):
    function: Function
    spec: FunctionSpec

    @property
    def signature(self) -> str:
        return signature(self.spec.parameters)


def common(services: Services, environment: str = "", log: str = "") -> dict[str, Any]:
    """What every page needs; ``environment`` and ``log`` are what its live hints are about."""
    return {
        "now": services.clock.now(),
        "version": services.version,
        "sandbox": services.sandbox,
        "topic": environment,
        "log_id": log,
        "State": State,
        "SHOWN_OPEN": SHOWN_OPEN,
    }


async def overview(services: Services) -> dict[str, Any]:
    store = services.store
    page = await store.executions.list(ExecutionFilter(), PageRequest(first=LAST))
    return common(services) | {
        "rows": _grouped(await _rows(services)),
        "builds": await store.builds.list(None, limit=LAST),
        "executions": page.items,
        "folder": services.settings.environments,
    }


async def _rows(services: Services) -> list[EnvironmentRow]:
    """All active environments, by name."""
    store = services.store
    counts = await store.statistics.environments()
    glances = await store.overview.environments(newest=1)
    return [
        _row(each, glances.get(each.name, Glance()), counts.get(each.name, {}))
        for each in await store.environments.list()
    ]


def _row(environment: Environment, glance: Glance, counts: dict[State, int]) -> EnvironmentRow:
    newest = glance.newest[0] if glance.newest else None
    return EnvironmentRow(
        environment=environment, live=glance.live, newest=newest, functions=glance.functions, counts=counts
    )


def _grouped(rows: list[EnvironmentRow]) -> list[EnvironmentRow]:
    """``rows`` with each preview under its environment; one whose environment is gone stands for itself."""
    names = {row.environment.name for row in rows}
    previews: dict[str, list[EnvironmentRow]] = {}
    for row in rows:
        if (of := _base(row)) in names:
            previews.setdefault(of, []).append(row)
    return [
        msgspec.structs.replace(row, previews=tuple(previews.get(row.environment.name, ())))
        for row in rows
        if _base(row) not in names
    ]


def _base(row: EnvironmentRow) -> str:
    return row.environment.preview.of if row.environment.preview else ""


async def environment(services: Services, name: str) -> dict[str, Any]:
    """Raises NotFound."""
    store = services.store
    found = await store.environments.get(name)
    counts = (await store.statistics.environments()).get(name, {})
    page = await store.executions.list(ExecutionFilter(environment=name), PageRequest(first=LAST))
    builds = await store.builds.list(name, limit=LAST)
    functions = await _functions(services, name)
    live = await live_build(store, found, builds)
    row = _row(found, Glance(live=live, newest=tuple(builds[:1]), functions=len(functions)), counts)
    asks = found.config is not None and found.config.preview is not None
    previews = [each for each in await _rows(services) if _base(each) == name] if asks else []
    return common(services, name) | {
        "row": msgspec.structs.replace(row, previews=tuple(previews)),
        "environment": found,
        "settings": masked(found.config) if found.config else None,
        "not_yet": not_yet(found),
        "push_address": f"{services.endpoint}/hooks/push/{name}",
        "functions": functions,
        "builds": builds,
        "kept": await store.builds.in_use(name),
        "held": None if row.state == "retired" else next((build for build in builds if build.held), None),
        "expires": await _expires(services, found),
        "WHY_ENDED": WHY_ENDED,
        "executions": page.items,
    }


async def _expires(services: Services, environment: Environment) -> int | None:
    """When a preview goes if its branch gets no commit."""
    preview, newest = environment.preview, await services.store.builds.newest_followed(environment.name)
    if preview is None or newest is None:
        return None
    config = (await services.store.environments.get(preview.of)).config
    settings = config.preview if config else None
    return newest.created_at + int(settings.expire * SECOND) if settings else None


async def _functions(services: Services, name: str) -> list[FunctionRow]:
    counts = await services.store.statistics.functions(name)
    return [
        FunctionRow(function=each, spec=await services.store.functions.spec(each.id), counts=counts.get(each.id, {}))
        for each in await services.store.functions.list(name)
        if each.active
    ]


async def build(services: Services, id: str, after: int) -> dict[str, Any]:
    """Raises NotFound."""
    found = await services.store.builds.get(id)
    log = await services.store.logs.read_build(id, after_seq=after, limit=LOG_LINES)
    newest = await services.store.builds.list(found.environment, limit=1)
    interpreter = ""
    if found.state is BuildState.SUCCEED:
        interpreter = (await services.store.builds.manifest(id)).interpreter
    passed = {step.state for step in found.steps}
    environment = await services.store.environments.get(found.environment)
    return common(services, found.environment, id) | {
        "build": found,
        "interpreter": interpreter,
        "newest": newest[0].id == id,
        "active": environment.state is EnvironmentState.ACTIVE,
        "kept": await services.store.builds.in_use(found.environment),
        "longest": max((_lasted(services, step.started_at, step.finished_at) for step in found.steps), default=1),
        "ahead": [] if found.finished_at else [state.value for state in USUAL_STEPS if state not in passed],
        "tail": await _tail(services, found),
        "ended": found.finished_at is not None,
        **_log([(seq, 1, line) for seq, line in log], after),
    }


async def _tail(services: Services, build: Build) -> list[LogLine]:
    """The last lines of the stage that failed, where the error does not show them itself."""
    if word_of(build) != "failed" or not build.steps:
        return []
    lines = await services.store.logs.build_tail(build.id, build.steps[-1].started_at, TAIL)
    said = (build.error or "").splitlines()
    return [line for line in lines if line.text.strip() and line.text not in said]


def _lasted(services: Services, started: int, finished: int | None) -> int:
    return max(1, (finished or services.clock.now()) - started)


async def execution(services: Services, id: str, after: int) -> dict[str, Any]:
    """Raises NotFound."""
    store = services.store
    found = await store.executions.get(None, id)
    arguments, keywords = await store.executions.arguments(id)
    result = await store.executions.result(id)
    attempts = await store.executions.attempts(id, page=PageRequest(first=_ATTEMPTS))
    return common(services, found.environment, id) | {
        "execution": found,
        "arguments": arguments,
        "keywords": keywords if keywords != "{}" else None,
        "result": result if found.state is State.SUCCEED else None,
        "error": error_of(result) if found.state is State.FAILED else None,
        "attempts": [(each, await _attempt_error(services, each.execution_id, each.number)) for each in attempts.items],
        "children": await store.executions.children(id),
        "parent": await _maybe(services, found.parent_id),
        "build": await store.builds.get(found.build_id) if found.build_id else None,
        "waiting": await why_it_waits(services, found),
        "due": found.scheduled_at <= services.clock.now(),
        "ended": found.state in TERMINAL,
        **_log(await store.logs.read(id, after_seq=after, limit=LOG_LINES), after),
    }


async def _maybe(services: Services, id: str | None) -> Execution | None:
    return await services.store.executions.get(None, id) if id else None


async def _attempt_error(services: Services, id: str, number: int) -> ErrorObject | None:
    return error_of(await services.store.executions.attempt_result(id, number), strict=True)


def error_of(result: str | None, strict: bool = False) -> ErrorObject | None:
    """The error object that ``result`` is; ``strict``: None for what does not look like one."""
    if result is None:
        return None
    try:
        return msgspec.json.decode(result, type=ErrorObject)
    except msgspec.DecodeError:
        return None if strict else ErrorObject("Error", result)


def _log(lines: list[tuple[int, int, LogLine]], after: int) -> dict[str, Any]:
    return {"lines": lines, "after": after, "next": lines[-1][0] if lines else after, "full": len(lines) == LOG_LINES}


async def executions(services: Services, wanted: ExecutionFilter, request: PageRequest) -> dict[str, Any]:
    """Raises InvalidCursor."""
    page: Page[Execution] = await services.store.executions.list(wanted, request)
    environments = await services.store.environments.list(include_retired=True)
    return common(services, wanted.environment or "") | {
        "page": page,
        "executions": page.items,
        "environments": [each.name for each in environments],
        "states": [state.value for state in State],
        "codes": [code.value for code in ErrorCode],
    }
