"""Every route of the admin API, those of tomorrow too: what is wrong is answered in the one shape."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

import deferlite
from deferlite.model.build import Trigger
from deferlite.model.ids import new_id
from deferlite.store import Store
from deferlite.web.bodies import MAX_BODY
from deferlite.web.session import trusted

pytestmark = pytest.mark.anyio
API = "/admin/api"
COMMANDS = "".join(path.read_text() for path in Path(deferlite.__file__).parent.glob("cli/*.py"))
READS_A_BODY = {
    ("PUT", "/environments/{name}/executions"): {"function_name": 7},
    ("POST", "/environments/{name}/tokens"): {"nam": "x"},
    ("POST", "/environments/{name}/builds"): {"comit": "x"},
    ("POST", "/environments/{name}/promote"): {"build": 7},
    ("POST", "/environments/{name}/rollback"): {"resume": "yes"},
    ("POST", "/executions/{id}/cancel"): {"force": "yes"},
    ("POST", "/executions/{id}/reschedule"): {"schedule_for": "soon"},
}
"""And a body that it refuses."""


@pytest.fixture
async def admin(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=trusted(app))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://localhost{API}") as client:
        yield client


def calls(app: Starlette) -> list[tuple[str, str]]:
    """Method and path of all calls."""
    return [
        (method, route.path.removeprefix(API))
        for route in app.routes
        if isinstance(route, Route) and route.path.startswith(API)
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, f"{answer.request.method} {answer.request.url}: {answer.text}"
    body = answer.json()
    assert set(body) == {"error", "message"} and body["message"]
    return str(body["message"])


async def test_what_is_not_there_is_404_and_what_cannot_be_an_id_is_400(
    app: Starlette, admin: httpx.AsyncClient
) -> None:
    for method, path in calls(app):
        body = {"function_name": "hello"} if method == "PUT" else None
        if "{name}" in path:
            gone = path.replace("{name}", "nowhere").replace("{id}", new_id(0))
            assert "nowhere" in refused(await admin.request(method, gone, json=body), 404)
        if "{id}" in path:
            here = path.replace("{name}", "production")
            refused(await admin.request(method, here.replace("{id}", new_id(0))), 404)
            assert "id" in refused(await admin.request(method, here.replace("{id}", "7")), 400)


async def test_a_method_that_is_none_is_405(app: Starlette, admin: httpx.AsyncClient) -> None:
    for path in {path for _, path in calls(app)}:
        there = path.replace("{name}", "production").replace("{id}", new_id(0))
        assert "PATCH" in refused(await admin.patch(there), 405)


async def test_a_body_that_is_wrong_is_named(app: Starlette, admin: httpx.AsyncClient) -> None:
    for (method, path), wrong in READS_A_BODY.items():
        there = path.replace("{name}", "production").replace("{id}", new_id(0))
        (field,) = wrong
        assert field in refused(await admin.request(method, there, json=wrong), 400)
        for content in (b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000):
            refused(await admin.request(method, there, content=content), 400)
        refused(await admin.request(method, there, content=b" " * (MAX_BODY + 1)), 413)
    writes = {call for call in calls(app) if call[0] in ("PUT", "POST")}
    bodiless = {("POST", "/builds/{id}/cancel"), ("POST", "/executions/{id}/rerun")}
    assert writes == READS_A_BODY.keys() | bodiless, "a new call belongs to one of the two"


async def test_a_build_of_another_environment_is_not_there(admin: httpx.AsyncClient, store: Store) -> None:
    (foreign,) = await store.builds.list("staging")
    before = (await store.environments.get("production")).live_build_id
    for call in ("promote", "rollback"):
        answer = await admin.post(f"/environments/production/{call}", json={"build": foreign.id})
        assert "production" in refused(answer, 404)
    assert (await store.environments.get("production")).live_build_id == before


async def test_a_retired_environment_takes_nothing_and_tells_all(admin: httpx.AsyncClient, store: Store) -> None:
    build = await store.builds.request("production", commit="d" * 40, branch="b", message="", trigger=Trigger.COMMIT)
    await store.environments.retire("production")
    one = "/environments/production"
    for method, path, body in (
        ("POST", f"{one}/builds", {}),
        ("POST", f"{one}/promote", {}),
        ("POST", f"{one}/rollback", {}),
        ("POST", f"{one}/rollback", {"resume": True}),
        ("PUT", f"{one}/executions", {"function_name": "hello"}),
        ("POST", f"/builds/{build.id}/cancel", {}),
    ):
        refused(await admin.request(method, path, json=body), 409)
    for path in (one, f"{one}/builds", f"{one}/functions", f"{one}/tokens", f"/builds/{build.id}/logs"):
        assert (await admin.get(path)).status_code == 200, path


async def test_the_limits_of_a_list_of_builds(admin: httpx.AsyncClient) -> None:
    for query in ("limit=0", "limit=1001", "limit=x", "before=0", "before=-1", "before=9e9", "limit=" + "9" * 5000):
        refused(await admin.get(f"/environments/production/builds?{query}"), 400)


async def test_the_command_line_asks_for_nothing_else(app: Starlette) -> None:
    """Every address that a command writes is a route: no call of it can be 404 by a slip."""
    paths = [path for _, path in calls(app)]
    written = re.findall(r'server\.(?:get|post|put|delete|lines)\(\s*f?"(/[^"?]*)"', COMMANDS)
    assert len(written) > 10
    for address in written:
        pattern = re.sub(r"{[^}]*}", "[^/]+", address)
        assert any(re.fullmatch(pattern, path) for path in paths), address
