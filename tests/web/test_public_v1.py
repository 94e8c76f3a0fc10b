"""Version 1 of the Defer API under both of its base paths (DEFER-PROTOCOL: HTTP API v1)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("base", ["/public/v1", "/api/v1"])]


async def enqueue(api: httpx.AsyncClient, base: str, **body: Any) -> str:
    answer = await api.post(f"{base}/enqueue", json={"name": "hello", "arguments": [1], **body})
    assert answer.status_code == 201
    assert set(answer.json()) == {"id"}
    made: str = answer.json()["id"]
    return made


async def test_enqueue_and_read(api: httpx.AsyncClient, base: str, stand_in: Any) -> None:
    made = await enqueue(api, base, metadata={}, schedule_for=None)
    path = f"{base}/executions/{made}"
    assert (await api.get(path)).json() == {"id": made, "state": "created", "result": None}
    await stand_in.succeed("hello", {"total": 1})
    assert (await api.get(path)).json() == {"id": made, "state": "succeed", "result": {"total": 1}}
    assert (await api.get(f"{path}/tries")).json() == [{"id": made, "state": "succeed"}]


async def test_a_failed_one_answers_its_error(api: httpx.AsyncClient, base: str, stand_in: Any) -> None:
    made = await enqueue(api, base)
    await stand_in.fail("hello", "no such company")
    answer = (await api.get(f"{base}/executions/{made}")).json()
    assert (answer["state"], answer["result"]["message"]) == ("failed", "no such company")


async def test_cancel_and_force(api: httpx.AsyncClient, base: str, stand_in: Any) -> None:
    made = await enqueue(api, base)
    path = f"{base}/executions/{made}/cancel"
    await stand_in.start("hello")
    refused = await api.post(path, json={"force": False})
    assert (refused.status_code, refused.json()["error"]) == (409, "conflict")
    assert (await api.post(path, json={"force": True})).json() == {"id": made}
    again = await api.post(path, json={"force": True})
    assert again.is_success and again.json()["message"]


async def test_reschedule(api: httpx.AsyncClient, base: str) -> None:
    made = await enqueue(api, base, schedule_for="2099-01-01T00:00:00.000Z")
    path = f"{base}/executions/{made}/reschedule"
    answer = await api.post(path, json={"schedule_for": "2099-02-01T00:00:00.000Z"})
    assert (answer.status_code, answer.json()) == (200, {"id": made})
    moved = (await api.get(f"/public/v2/executions/{made}")).json()["data"]
    assert moved["scheduled_at"] == "2099-02-01T00:00:00.000000Z"
    assert (await api.post(path)).status_code == 200
