"""What each page shows, read from the store: the contexts of the templates."""

from __future__ import annotations

from typing import Any

import msgspec

from deferlite.model.build import Build, BuildState
from deferlite.model.environment import Environment, EnvironmentState
from deferlite.model.execution import TERMINAL, ErrorCode, ErrorObject, Execution, LogLine, State
from deferlite.model.function import Function, FunctionSpec
from deferlite.store import ExecutionFilter, Page, PageRequest
from deferlite.web.admin_environments import live_build, not_yet
from deferlite.web.admin_shapes import masked
from deferlite.web.admin_waiting import why_it_waits
from deferlite.web.services import Services

LAST = 12
"""Builds or executions in a short list."""
LOG_LINES = 2000
"""Lines of a log on one page."""
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

    @property
    def state(self) -> str:
        """One word: what its file and its builds come to."""
        if self.environment.state is EnvironmentState.RETIRED:
            return "retired"
        if self.environment.error:
            return "broken file"
        if self.environment.problem:
            return "no repository"
        if self.newest and self.newest.finished_at is None:
            return "building"
        if self.newest and self.newest.state is BuildState.FAILED:
            return "build failed"
        return "live" if self.live else "no build"


class FunctionRow(Counted, frozen=True, kw_only=True):
    function: Function
    spec: FunctionSpec

    @property
    def signature(self) -> str:
        return ", ".join(_parameters(self.spec))


def _parameters(spec: FunctionSpec) -> list[str]:
    stars = {"var_positional": "*", "var_keyword": "**"}
    shown = []
    for parameter in spec.parameters:
        text = stars.get(parameter.kind, "") + parameter.name
        text += f": {parameter.annotation}" if parameter.annotation else ""
        shown.append(text + (f" = {parameter.default}" if parameter.default is not None else ""))
    return shown


def common(services: Services, environment: str = "", log: str = "") -> dict[str, Any]:
    """What every page needs; ``environment`` and ``log`` are what its live hints are about."""
    return {
        "now": services.clock.now(),
        "version": services.version,
        "sandbox": services.sandbox,
        "topic": environment,
        "log_id": log,
        "State": State,
    }


async def overview(services: Services) -> dict[str, Any]:
    store = services.store
    counts = await store.statistics.environments()
    environments = await store.environments.list()
    page = await store.executions.list(ExecutionFilter(), PageRequest(first=LAST))
    return common(services) | {
        "rows": [await environment_row(services, each, counts.get(each.name, {})) for each in environments],
        "builds": await store.builds.list(None, limit=LAST),
        "executions": page.items,
        "folder": services.settings.environments,
    }


async def environment_row(services: Services, environment: Environment, counts: dict[State, int]) -> EnvironmentRow:
    newest = await services.store.builds.list(environment.name, limit=1)
    live = await live_build(services.store, environment, newest)
    functions = [each for each in await services.store.functions.list(environment.name) if each.active]
    return EnvironmentRow(
        environment=environment,
        live=live,
        newest=newest[0] if newest else None,
        functions=len(functions),
        counts=counts,
    )


async def environment(services: Services, name: str) -> dict[str, Any]:
    """Raises NotFound."""
    store = services.store
    found = await store.environments.get(name)
    counts = (await store.statistics.environments()).get(name, {})
    page = await store.executions.list(ExecutionFilter(environment=name), PageRequest(first=LAST))
    return common(services, name) | {
        "row": await environment_row(services, found, counts),
        "environment": found,
        "settings": masked(found.config) if found.config else None,
        "not_yet": [wish.removeprefix(f"{name}: ") for wish in not_yet([found])],
        "functions": await _functions(services, name),
        "builds": await store.builds.list(name, limit=LAST),
        "executions": page.items,
    }


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
    return common(services, found.environment, id) | {
        "build": found,
        "interpreter": interpreter,
        "newest": newest[0].id == id,
        "longest": max((_lasted(services, step.started_at, step.finished_at) for step in found.steps), default=1),
        "ended": found.finished_at is not None,
        **_log([(seq, 1, line) for seq, line in log], after),
    }


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
