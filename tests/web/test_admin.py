"""The admin API over a real store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from anyio.abc import TaskStatus
from starlette.applications import Starlette

from deferlite.bus import Bus
from deferlite.model.build import BuildState, Trigger
from deferlite.model.environment import EnvironmentConfig, GitSettings, HookSettings, PreviewSettings
from deferlite.model.execution import Ending, LogLine, NewExecution, Outcome, State
from deferlite.model.ids import new_id
from deferlite.store import Store
from deferlite.web.services import Services
from deferlite.web.session import trusted
from tests.web.browser import served

pytestmark = pytest.mark.anyio
API = "/admin/api"


@pytest.fixture
async def admin(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """As the command line comes: over the socket, without a key."""
    transport = httpx.ASGITransport(app=trusted(app))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://localhost{API}") as client:
        yield client


async def enqueue(store: Store, function: str = "hello", **more: Any) -> str:
    item = NewExecution(function_name=function, **more)
    return (await store.executions.enqueue("production", [item]))[0].id


async def test_status_says_what_the_server_is(admin: httpx.AsyncClient) -> None:
    status = (await admin.get("/status")).json()
    assert status["endpoint"] == status["address"] == "http://127.0.0.1:3337"
    assert status["sandbox"] == {"level": "process", "detail": "none in these tests"}
    assert status["environments"] == 2
    assert status["started_at"].endswith("Z")
    assert status["not_yet"] == []


async def test_status_names_what_files_ask_for_in_vain(admin: httpx.AsyncClient, store: Store) -> None:
    config = EnvironmentConfig(repository="/srv/shop", notify={"slack": "https://hooks.example.org/T0"})
    await store.environments.apply("production", config, "production.toml")
    (wish,) = (await admin.get("/status")).json()["not_yet"]
    assert wish.startswith("production: notify: ")


async def test_environments_have_their_live_build_and_counts(admin: httpx.AsyncClient, store: Store) -> None:
    await enqueue(store)
    environments = (await admin.get("/environments")).json()["data"]
    production = next(each for each in environments if each["name"] == "production")
    assert production["live_build"]["state"] == "succeed"
    assert production["live_build"]["live"] is True
    assert production["counts"] == {"created": 1}
    assert [build["number"] for build in production["last_builds"]] == [1]


async def test_retired_environments_are_listed_on_request(admin: httpx.AsyncClient, store: Store) -> None:
    await store.environments.retire("staging")
    assert [each["name"] for each in (await admin.get("/environments")).json()["data"]] == ["production"]
    everything = (await admin.get("/environments", params={"retired": 1})).json()["data"]
    assert {each["name"]: each["state"] for each in everything} == {"production": "active", "staging": "retired"}


async def test_settings_are_shown_without_secrets(admin: httpx.AsyncClient, store: Store) -> None:
    config = EnvironmentConfig(
        repository="https://me:hunter2@git.example.org/shop",
        env={"STRIPE_KEY": "sk_live_1", "DATABASE_URL": {"file": "/run/secrets/db"}},
        token="dlt_secret",
        notify={"slack": "https://hooks.example.org/T0"},
        preview=PreviewSettings(branches=("qa/*",), env={"STRIPE_KEY": "sk_test_1"}),
        git=GitSettings(token="git-password-1"),
        hooks=HookSettings(secret="push-secret-of-the-shop"),
    )
    await store.environments.apply("production", config, "production.toml")
    answers = [await admin.get("/environments"), await admin.get("/environments/production")]
    for answer in answers:
        for secret in (
            "hunter2",
            "sk_live_1",
            "/run/secrets",
            "dlt_secret",
            "hooks.example.org",
            "sk_test_1",
            "git-password-1",
            "push-secret",
        ):
            assert secret not in answer.text
    shown = answers[1].json()["data"]["config"]
    assert shown["env"] == {"STRIPE_KEY": "•••", "DATABASE_URL": "•••"}
    assert shown["repository"] == "https://•••@git.example.org/shop"
    assert shown["preview"]["branches"] == ["qa/*"]


async def test_one_environment(admin: httpx.AsyncClient) -> None:
    shown = (await admin.get("/environments/production")).json()["data"]
    assert [function["name"] for function in shown["functions"]] == ["add", "hello", "sleepy"]
    assert [build["number"] for build in shown["builds"]] == [1]
    missing = await admin.get("/environments/nowhere")
    assert missing.status_code == 404
    assert "nowhere" in missing.json()["message"]


async def test_functions_have_options_parameters_and_counts(admin: httpx.AsyncClient, store: Store) -> None:
    await enqueue(store, "add")
    functions = (await admin.get("/environments/production/functions")).json()["data"]
    add = next(each for each in functions if each["name"] == "add")
    assert add["active"] is True
    assert add["options"]["retry"]["max_attempts"] == 0
    assert add["counts"] == {"created": 1}
    assert add["parameters"] == []


async def test_a_rebuild_repeats_the_newest_commit(admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/environments/production/builds", json={})
    assert answer.status_code == 201
    build = answer.json()["data"]
    assert (build["number"], build["state"], build["trigger"]) == (2, "created", "manual")
    assert build["commit"] == "c" * 40
    listed = (await admin.get("/environments/production/builds", params={"limit": 1})).json()["data"]
    assert listed[0]["id"] == build["id"]
    older = (await admin.get("/environments/production/builds", params={"before": 2})).json()["data"]
    assert [each["number"] for each in older] == [1]


async def test_a_rebuild_without_a_first_build_is_a_conflict(admin: httpx.AsyncClient, store: Store) -> None:
    await store.environments.apply("fresh", EnvironmentConfig(repository="/srv/fresh"), "fresh.toml")
    answer = await admin.post("/environments/fresh/builds", json={})
    assert answer.status_code == 409
    assert "fresh" in answer.json()["message"]


async def test_rollback_without_an_older_build_is_a_conflict(admin: httpx.AsyncClient) -> None:
    assert (await admin.post("/environments/production/rollback", json={"build": None})).status_code in (404, 409)
    assert (await admin.post("/environments/production/rollback", json={"build": "x"})).status_code == 400
    assert (await admin.post("/environments/production/rollback", json={"bild": None})).status_code == 400


async def test_tokens_are_made_shown_once_and_revoked(admin: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    made = await admin.post("/environments/production/tokens", json={"name": "shop"})
    assert made.status_code == 201
    token, info = made.json()["token"], made.json()["data"]
    assert token.startswith("dlt_")
    listed = await admin.get("/environments/production/tokens")
    assert token not in listed.text
    assert [each["name"] for each in listed.json()["data"]] == ["shop"]
    use = {"auth": ("", token), "json": {"function_name": "hello"}}
    assert (await anonymous.put("/public/v2/executions", **use)).status_code == 201
    assert (await admin.delete(f"/environments/production/tokens/{info['id']}")).status_code == 204
    assert (await anonymous.put("/public/v2/executions", **use)).status_code == 401
    revoked = (await admin.get("/environments/production/tokens")).json()["data"][0]
    assert revoked["revoked_at"] is not None
    assert (await admin.delete(f"/environments/production/tokens/{new_id(0)}")).status_code == 404


async def test_enqueue_takes_the_body_of_the_public_api(admin: httpx.AsyncClient) -> None:
    body = {"function_name": "add", "function_arguments": [1, 2], "metadata": {"user": "7"}, "priority": 5}
    answer = await admin.put("/environments/production/executions", json=body)
    assert answer.status_code == 201
    execution = answer.json()["data"]
    assert (execution["state"], execution["priority"], execution["metadata"]) == ("created", 5, {"user": "7"})
    arguments = (await admin.get(f"/executions/{execution['id']}/arguments")).json()
    assert arguments == {"arguments": [1, 2], "keyword_arguments": {}}


async def test_enqueue_says_what_is_wrong(admin: httpx.AsyncClient) -> None:
    unknown = await admin.put("/environments/production/executions", json={"function_name": "nope"})
    assert (unknown.status_code, unknown.json()["message"]) == (400, 'cannot find function "nope"')
    assert (await admin.put("/environments/production/executions", content=b"{")).status_code == 400
    assert (await admin.put("/environments/nowhere/executions", json={"function_name": "x"})).status_code == 404


async def test_executions_are_filtered_and_paged(admin: httpx.AsyncClient, store: Store) -> None:
    ids = [await enqueue(store, "add", metadata={"user": str(n % 2)}) for n in range(5)]
    await enqueue(store, "hello")
    query = {"environment": "production", "function": "add", "first": 2}
    first = (await admin.get("/executions", params=query)).json()
    assert [each["id"] for each in first["data"]] == [ids[4], ids[3]]
    assert first["page_info"]["has_next_page"] is True
    more = query | {"after": first["page_info"]["end_cursor"]}
    second = (await admin.get("/executions", params=more)).json()
    assert [each["id"] for each in second["data"]] == [ids[2], ids[1]]
    back = {"function": "add", "last": 2, "before": second["page_info"]["start_cursor"]}
    assert (await admin.get("/executions", params=back)).json()["data"] == first["data"]
    odd = (await admin.get("/executions", params={"environment": "production", "metadata": "user=1"})).json()
    assert {each["id"] for each in odd["data"]} == {ids[1], ids[3]}
    both = await admin.get("/executions", params={"state": ["created", "failed"]})
    assert len(both.json()["data"]) == 6


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"state": "runing"}, "runing"),
        ({"error_code": "ER9"}, "ER9"),
        ({"metadata": "user"}, "key=value"),
        ({"first": "0"}, "first"),
        ({"first": "1", "last": "1"}, "one way"),
        ({"stat": "failed"}, "stat"),
        ({"build": "7"}, "id"),
        ({"after": "not a cursor"}, "cursor"),
    ],
)
async def test_a_wrong_filter_is_named(admin: httpx.AsyncClient, query: dict[str, str], word: str) -> None:
    answer = await admin.get("/executions", params=query)
    assert answer.status_code == 400
    assert word in answer.json()["message"]


async def test_an_execution_says_why_it_waits(admin: httpx.AsyncClient, store: Store, services: Services) -> None:
    due = await enqueue(store)
    later = await enqueue(store, scheduled_at=services.clock.now() + 3_600_000_000)
    assert "slot" in (await admin.get(f"/executions/{due}")).json()["data"]["waits_for"]
    assert "time has not come" in (await admin.get(f"/executions/{later}")).json()["data"]["waits_for"]
    await store.environments.retire("production")
    assert "retired" in (await admin.get(f"/executions/{due}")).json()["data"]["waits_for"]


async def test_an_execution_says_that_its_key_is_taken(admin: httpx.AsyncClient, store: Store, stand_in: Any) -> None:
    await enqueue(store, concurrency_key="acme")
    await stand_in.start("hello")
    second = await enqueue(store, "add", concurrency_key="acme")
    assert 'key "acme"' in (await admin.get(f"/executions/{second}")).json()["data"]["waits_for"]


@pytest.mark.parametrize("part", ["", "/arguments", "/result", "/attempts", "/children", "/logs"])
async def test_every_part_of_an_unknown_execution_is_404(admin: httpx.AsyncClient, part: str) -> None:
    assert (await admin.get(f"/executions/{new_id(0)}{part}")).status_code == 404


async def test_executions_of_an_unknown_environment_are_404(admin: httpx.AsyncClient) -> None:
    assert (await admin.get("/executions", params={"environment": "nowhere"})).status_code == 404


async def test_results_are_waited_for(admin: httpx.AsyncClient, store: Store, stand_in: Any) -> None:
    id = await enqueue(store)
    assert (await admin.get(f"/executions/{id}/result")).status_code == 202
    answers: list[httpx.Response] = []

    async def wait() -> None:
        answers.append(await admin.get(f"/executions/{id}/result", params={"wait": 30}))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await stand_in.succeed("hello", {"said": "hello"})
    assert answers[0].json() == {"said": "hello"}
    assert (await admin.get(f"/executions/{id}")).json()["data"]["waits_for"] is None
    assert [each["number"] for each in (await admin.get(f"/executions/{id}/attempts")).json()["data"]] == [1]


async def test_cancel_rerun_and_reschedule(admin: httpx.AsyncClient, store: Store, services: Services) -> None:
    id = await enqueue(store, scheduled_at=services.clock.now() + 3_600_000_000)
    moved = await admin.post(f"/executions/{id}/reschedule", json={"schedule_for": "2030-01-01T00:00:00Z"})
    assert moved.json()["data"]["scheduled_at"] == "2030-01-01T00:00:00.000000Z"
    cancelled = await admin.post(f"/executions/{id}/cancel", json={"force": False})
    assert cancelled.json()["data"]["state"] == "cancelled"
    again = await admin.post(f"/executions/{id}/cancel", json={})
    assert (again.status_code, again.json()["error"]) == (409, "conflict")
    assert (await admin.get(f"/executions/{id}/result")).status_code == 204
    rerun = await admin.post(f"/executions/{id}/rerun")
    assert rerun.status_code == 201
    assert rerun.json()["data"]["rerun_of"] == id
    assert (await admin.post(f"/executions/{id}/reschedule", json={})).status_code == 409


async def test_ids_that_are_not_ids(admin: httpx.AsyncClient) -> None:
    for path in ("/executions/7", "/builds/7", "/executions/7/logs", "/executions/7/cancel"):
        method = "POST" if path.endswith("cancel") else "GET"
        assert (await admin.request(method, path)).status_code == 400
    missing = new_id(0)
    for path in (f"/executions/{missing}", f"/builds/{missing}", f"/executions/{missing}/logs"):
        assert (await admin.get(path)).status_code == 404


async def test_a_build_log(admin: httpx.AsyncClient, store: Store) -> None:
    build = await store.builds.request(
        "production", commit="d" * 40, branch="main", message="next", trigger=Trigger.COMMIT
    )
    lines = [LogLine(1_000_000 * n, "stdout", f"line {n}") for n in range(3)]
    await store.logs.append_build(build.id, lines)
    shown = _lines((await admin.get(f"/builds/{build.id}/logs")).text)
    assert [line["text"] for line in shown] == ["line 0", "line 1", "line 2"]
    assert shown[0]["time"] == "1970-01-01T00:00:00.000000Z"
    rest = _lines((await admin.get(f"/builds/{build.id}/logs", params={"after": shown[1]["seq"]})).text)
    assert [line["text"] for line in rest] == ["line 2"]
    assert (await admin.get(f"/builds/{build.id}/logs", params={"after": "x"})).status_code == 400


async def test_a_log_is_followed_until_the_end(app: Starlette, store: Store, stand_in: Any) -> None:
    """Through ASGI itself: httpx's transport gives the answer only once it is whole."""
    id = await enqueue(store)
    (claimed,) = await stand_in.start("hello")
    await store.logs.append(id, 1, [LogLine(0, "stdout", "first")])
    heard: list[str] = []
    first_came, ended = anyio.Event(), anyio.Event()

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.body":
            heard.append(bytes(message["body"]).decode())
            if "first" in heard[-1]:
                first_came.set()

    async def follow() -> None:
        await trusted(app)(_scope(f"{API}/executions/{id}/logs", "follow=1"), _hold, send)
        ended.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await first_came.wait()
            await store.logs.append(id, 1, [LogLine(0, "stderr", "second")])
            assert not ended.is_set()
            await stand_in.end(claimed, _returned())
            await ended.wait()
    assert [line["text"] for line in _lines("".join(heard))] == ["first", "second"]
    assert _lines("".join(heard))[0]["attempt"] == 1


async def test_a_stream_ends_with_its_client(app: Starlette, bus: Bus) -> None:
    gone = anyio.Event()

    async def receive() -> dict[str, str]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.body":
            gone.set()

    with anyio.fail_after(5):
        await trusted(app)(_scope(f"{API}/events", ""), receive, send)
    assert not any(bus._listeners.get(kind) for kind in bus._listeners if kind.__name__ == "BuildLogged")


async def test_a_stream_that_the_end_cuts_off_is_no_fault(
    app: Starlette, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"authorization": f"Bearer {services.admin_key}"}
    async with httpx.AsyncClient(headers=headers) as client, anyio.create_task_group() as tasks:
        cut_off = anyio.Event()

        async def read(address: str, *, task_status: TaskStatus[None]) -> None:
            with pytest.raises(httpx.RemoteProtocolError):
                async with client.stream("GET", f"{address}{API}/events") as answer:
                    task_status.started()
                    await answer.aread()
            cut_off.set()

        async with served(app) as address:
            await tasks.start(read, address)
        await cut_off.wait()
    assert caplog.records == []


async def test_events_are_named_and_carry_their_fields(app: Starlette, store: Store) -> None:
    heard: list[str] = []
    listening, enough = anyio.Event(), anyio.Event()

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.body":
            heard.append(bytes(message["body"]).decode())
            listening.set()
            if "execution_changed" in heard[-1]:
                enough.set()

    async def receive() -> dict[str, str]:
        await enough.wait()
        return {"type": "http.disconnect"}

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(trusted(app), _scope(f"{API}/events", ""), receive, send)
            await listening.wait()
            id = await enqueue(store)
            await store.executions.cancel(None, id, force=False)
    message = next(text for text in heard if "execution_changed" in text)
    kind, data = message.strip().split("\n")
    assert kind == "event: execution_changed"
    fields = json.loads(data.removeprefix("data: "))
    assert (fields["execution_id"], fields["state"]) == (id, State.CANCELLED.value)


async def test_build_states_come_with_steps(admin: httpx.AsyncClient, store: Store) -> None:
    build = await store.builds.request("production", commit=None, branch=None, message="", trigger=Trigger.MANUAL)
    await store.builds.advance(build.id, BuildState.STARTED)
    shown = (await admin.get(f"/builds/{build.id}")).json()["data"]
    assert shown["state"] == "started"
    assert shown["started_at"].endswith("Z")


def _scope(path: str, query: str) -> dict[str, object]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": None,
        "server": None,
    }


async def _hold() -> dict[str, object]:
    await anyio.sleep_forever()
    raise AssertionError


def _returned() -> Outcome:
    return Outcome(ending=Ending.RETURNED, result="1")


def _lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]
