"""Why an execution that was asked for has not started: one sentence, with what stands in its way."""

from __future__ import annotations

import msgspec

from deferlite.model.environment import Environment, EnvironmentState
from deferlite.model.execution import Execution, State
from deferlite.model.function import Function
from deferlite.store import ExecutionFilter, PageRequest
from deferlite.web.services import Services

RUNNING = (State.STARTED, State.ABORTING)
_SHOWN = 20


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """``text`` is the sentence; ``until`` a moment it waits for; ``behind`` the running executions in its way."""

    text: str
    until: int | None = None
    behind: tuple[Execution, ...] = ()


async def why_it_waits(services: Services, execution: Execution) -> Waiting | None:
    """None for an execution that does not wait."""
    if execution.state is not State.CREATED:
        return None
    environment = await services.store.environments.get(execution.environment)
    function = await services.store.functions.by_id(execution.function_id)
    return (
        _stands_still(environment, function)
        or _not_due(services, execution)
        or await _behind_its_key(services, execution)
        or await _at_a_limit(services, environment, function)
        or Waiting(text="due: it takes the next free slot of this server")
    )


def _stands_still(environment: Environment, function: Function) -> Waiting | None:
    if environment.state is EnvironmentState.RETIRED:
        return Waiting(text=f"{environment.name} is retired: its queue stopped when its file was removed")
    if environment.live_build_id is None:
        return Waiting(text=f"{environment.name} has no live build yet")
    if not function.active:
        return Waiting(text=f"{function.name} is not part of the live build of {environment.name}")
    return None


def _not_due(services: Services, execution: Execution) -> Waiting | None:
    if execution.scheduled_at <= services.clock.now():
        return None
    why = "its time has not come" if not execution.attempt else f"attempt {execution.attempt} failed; its retry is due"
    return Waiting(text=why, until=execution.scheduled_at)


async def _behind_its_key(services: Services, execution: Execution) -> Waiting | None:
    key = execution.concurrency_key
    if key is None:
        return None
    same = tuple(each for each in await _running(services, execution.environment) if each.concurrency_key == key)
    return Waiting(text=f'one at a time runs with the concurrency key "{key}"', behind=same[:_SHOWN]) if same else None


async def _at_a_limit(services: Services, environment: Environment, function: Function) -> Waiting | None:
    here = await _running(services, environment.name)
    own = tuple(each for each in here if each.function_id == function.id)
    everywhere = await _running(services, None)
    of_environment = environment.config.run.concurrency if environment.config else None
    for who, running, limit in (
        (function.name, own, function.options.concurrency),
        (environment.name, here, of_environment),
        ("this server", everywhere, services.settings.concurrency),
    ):
        if limit is not None and len(running) >= limit:
            return Waiting(text=f"{who} runs {len(running)} of {limit} at once", behind=running[:_SHOWN])
    return None


async def _running(services: Services, environment: str | None) -> tuple[Execution, ...]:
    wanted = ExecutionFilter(environment=environment, states=RUNNING)
    return (await services.store.executions.list(wanted, PageRequest(first=1000))).items
