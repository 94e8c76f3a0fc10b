"""/openapi.json says what is served, /healthz and /readyz say whether; all three are open."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from deferlite.web.endpoint import Endpoint
from deferlite.web.services import Services

pytestmark = pytest.mark.anyio


async def document(anonymous: httpx.AsyncClient) -> dict[str, Any]:
    answer = await anonymous.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    read: dict[str, Any] = answer.json()
    return read


async def test_it_lists_the_routes_and_no_other(anonymous: httpx.AsyncClient, app: Starlette) -> None:
    served = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, Route) and isinstance(route.endpoint, Endpoint)
        for method in route.endpoint._handlers
        if method != "HEAD"
    }
    paths = (await document(anonymous))["paths"]
    assert {(method.upper(), path) for path, group in paths.items() for method in group} == served
    assert len(served) == 13 + 2 * 5


async def test_every_reference_leads_somewhere(anonymous: httpx.AsyncClient) -> None:
    read = await document(anonymous)
    names = set(re.findall(r"#/components/schemas/(\w+)", str(read)))
    assert names == set(read["components"]["schemas"])
    assert {"EnqueueBody", "ExecutionBody", "ErrorBody"} <= names
    identifiers = [call["operationId"] for group in read["paths"].values() for call in group.values()]
    assert len(set(identifiers)) == len(identifiers)


async def test_it_says_what_an_enqueue_takes(anonymous: httpx.AsyncClient) -> None:
    schema = (await document(anonymous))["components"]["schemas"]["EnqueueBody"]
    assert schema["required"] == ["function_name"]
    assert schema["properties"]["priority"]["maximum"] == 100
    assert {"keyword_arguments", "idempotency_key", "concurrency_key"} <= set(schema["properties"])


async def test_health(anonymous: httpx.AsyncClient, services: Services) -> None:
    assert (await anonymous.get("/healthz")).json() == {"status": "ok"}
    assert (await anonymous.get("/readyz")).json() == {"status": "ready"}
    services.ready = lambda: False
    answer = await anonymous.get("/readyz")
    assert (answer.status_code, answer.json()["error"]) == (503, "not_ready")
    assert (await anonymous.get("/healthz")).status_code == 200


async def test_an_enqueue_may_have_fields_of_other_versions(
    anonymous: httpx.AsyncClient, api: httpx.AsyncClient
) -> None:
    schema = (await document(anonymous))["components"]["schemas"]["EnqueueBody"]
    assert schema.get("additionalProperties", True) is True
    answer = await api.put("/public/v2/executions", json={"function_name": "hello", "of_tomorrow": 1})
    assert answer.status_code == 201
