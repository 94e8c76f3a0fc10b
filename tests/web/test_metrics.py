"""What Prometheus reads."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deferlite.store import Store

pytestmark = pytest.mark.anyio

KEY = {"authorization": "Bearer the-admin-key-of-the-tests"}


async def test_metrics_are_behind_the_admin_key(anonymous: httpx.AsyncClient, api: httpx.AsyncClient) -> None:
    assert (await anonymous.get("/metrics")).status_code == 401
    assert (await api.get("/metrics")).status_code == 401


async def test_executions_builds_and_the_server_are_told(
    anonymous: httpx.AsyncClient, api: httpx.AsyncClient, store: Store, stand_in: Any
) -> None:
    for _ in range(3):
        await api.put("/public/v2/executions", json={"function_name": "hello"})
    await stand_in.succeed("hello", 1)
    await stand_in.start("hello")
    answer = await anonymous.get("/metrics", headers=KEY)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=")
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    for state in ("created", "started", "succeed"):
        assert told["deferlite_executions", "production", "hello", state] == 1
    assert told["deferlite_executions", "staging", "hello", "failed"] == 0
    assert told["deferlite_executions_running", "production"] == 1
    assert told["deferlite_executions_running", "staging"] == 0
    assert told["deferlite_builds", "production", "succeed"] == 1
    assert told["deferlite_info", "process", "0.0.0"] == 1
