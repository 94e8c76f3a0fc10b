"""Calls from inside an execution: it is the parent of what it enqueues, and no workflow can deadlock."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from deferlite.bus import Bus
from deferlite.model.events import ParentParked, ParentReady, ParentResumed
from deferlite.model.execution import State
from deferlite.web import waiting
from deferlite.web.services import Services

pytestmark = pytest.mark.anyio

E = "/public/v2/executions"


async def put(api: httpx.AsyncClient) -> dict[str, Any]:
    data: dict[str, Any] = (await api.put(E, json={"function_name": "hello"})).json()["data"]
    return data


async def test_an_execution_is_the_parent_of_what_it_enqueues(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, services: Services, stand_in: Any
) -> None:
    parent = await put(api)
    (claimed,) = await stand_in.start("hello")
    token = services.execution_tokens.issue(claimed.id, claimed.attempt)
    answer = await anonymous.put(E, json={"function_name": "add"}, headers={"authorization": f"Bearer {token}"})
    assert answer.json()["data"]["parent_id"] == parent["id"]
    listed = await api.post(E, json={"filters": {"executed_by": "execution"}})
    assert [row["id"] for row in listed.json()["data"]] == [answer.json()["data"]["id"]]


async def test_a_waiting_parent_gives_its_slot_back(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, services: Services, stand_in: Any, bus: Bus
) -> None:
    parent = await put(api)
    (claimed,) = await stand_in.start("hello")
    anonymous.headers["authorization"] = f"Bearer {services.execution_tokens.issue(claimed.id, claimed.attempt)}"
    child = (await anonymous.put(E, json={"function_name": "add"})).json()["data"]
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await anonymous.get(f"{E}/{child['id']}/results?wait=30"))

    with anyio.fail_after(10), bus.subscribe(ParentParked, ParentReady) as events:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            assert await events.receive() == ParentParked(environment="production", execution_id=parent["id"])
            await stand_in.succeed("add", 3)
            assert await events.receive() == ParentReady(environment="production", execution_id=parent["id"])
            assert not answers
            bus.publish(ParentResumed(environment="production", execution_id=parent["id"]))
    assert answers[0].json() == 3


async def test_several_waits_of_a_parent_are_told_one_by_one(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, services: Services, stand_in: Any, bus: Bus
) -> None:
    parent = await put(api)
    (claimed,) = await stand_in.start("hello")
    anonymous.headers["authorization"] = f"Bearer {services.execution_tokens.issue(claimed.id, claimed.attempt)}"
    children = [(await anonymous.put(E, json={"function_name": "add"})).json()["data"]["id"] for _ in range(2)]
    told: list[type[Any]] = []

    def resume(event: ParentReady) -> None:
        bus.publish(ParentResumed(environment="production", execution_id=parent["id"]))

    async def ask(child: str) -> None:
        assert (await anonymous.get(f"{E}/{child}/results?wait=30")).json() == "done"

    with anyio.fail_after(10), bus.subscribe(ParentParked, ParentReady) as events, bus.listening(ParentReady, resume):
        async with anyio.create_task_group() as tasks:
            for child in children:
                tasks.start_soon(ask, child)
                told.append(type(await events.receive()))
            for _ in children:
                await stand_in.succeed("add", "done")
                told.append(type(await events.receive()))
    assert told == [ParentParked, ParentParked, ParentReady, ParentReady]


async def test_a_token_is_good_only_while_its_execution_runs(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, services: Services, stand_in: Any
) -> None:
    await put(api)
    (claimed,) = await stand_in.start("hello")
    anonymous.headers["authorization"] = f"Bearer {services.execution_tokens.issue(claimed.id, claimed.attempt)}"
    assert (await anonymous.get(E)).status_code == 200
    aborting = await stand_in.store.executions.cancel("production", claimed.id, True)
    assert aborting.state is State.ABORTING
    await stand_in.end_aborted(claimed)
    refused = await anonymous.get(E)
    assert refused.status_code == 401
    assert "only while that execution runs" in refused.json()["message"]


async def test_a_parent_that_waits_in_vain_is_resumed_too(
    api: httpx.AsyncClient, anonymous: httpx.AsyncClient, services: Services, stand_in: Any, bus: Bus
) -> None:
    await put(api)
    (claimed,) = await stand_in.start("hello")
    anonymous.headers["authorization"] = f"Bearer {services.execution_tokens.issue(claimed.id, claimed.attempt)}"
    child = (await anonymous.put(E, json={"function_name": "add"})).json()["data"]

    def resume(event: ParentReady) -> None:
        bus.publish(ParentResumed(environment=event.environment, execution_id=event.execution_id))

    with anyio.fail_after(4), bus.listening(ParentReady, resume):
        answer = await anonymous.get(f"{E}/{child['id']}/results?wait=0.05")
    assert answer.status_code == 202
    done = await api.get(f"{E}/{child['id']}/results?wait=0.01")
    assert done.status_code == 202


async def test_a_parent_without_a_slot_is_told_to_ask_again(
    api: httpx.AsyncClient,
    anonymous: httpx.AsyncClient,
    services: Services,
    stand_in: Any,
    bus: Bus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "RESUME_SECONDS", 0.01)
    await put(api)
    (claimed,) = await stand_in.start("hello")
    anonymous.headers["authorization"] = f"Bearer {services.execution_tokens.issue(claimed.id, claimed.attempt)}"
    child = (await anonymous.put(E, json={"function_name": "add"})).json()["data"]
    await stand_in.succeed("add", 3)
    for query in ("wait=0.01", "wait=0"):
        refused = await anonymous.get(f"{E}/{child['id']}/results?{query}")
        assert refused.status_code == 202 and "ask again" in refused.json()["message"]
    asked: list[ParentReady] = []

    def resume(event: ParentReady) -> None:
        asked.append(event)
        bus.publish(ParentResumed(environment=event.environment, execution_id=event.execution_id))

    with bus.listening(ParentReady, resume):
        assert (await anonymous.get(f"{E}/{child['id']}/results?wait=30")).json() == 3
    assert [event.parked for event in asked] == [False]
