"""Builds over HTTP: asked for, cancelled, held, promoted, rolled back, and what the pages say of them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette

from deferlite.bus import Bus
from deferlite.model.build import CANCELLED, Build, BuildState, Trigger
from deferlite.model.changes import Commit
from deferlite.model.environment import (
    BuildSettings,
    EnvironmentConfig,
    HookSettings,
    Preview,
    PreviewSettings,
)
from deferlite.model.events import BuildCancelRequested
from deferlite.model.execution import LogLine, NewExecution
from deferlite.model.function import FunctionSpec, Manifest, Parameter
from deferlite.model.ids import new_id
from deferlite.store import Store
from deferlite.web.services import Services
from deferlite.web.session import trusted
from tests.support import Repository

pytestmark = pytest.mark.anyio
ORIGIN = "http://127.0.0.1:3337"
STEPS = ("started", "cloning", "installing", "compiling", "publishing")


@pytest.fixture
async def admin(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=trusted(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/admin/api") as client:
        yield client


@pytest.fixture
async def page(app: Starlette, services: Services) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers={"origin": ORIGIN}) as client:
        await client.get("/", params={"key": services.admin_key})
        yield client


async def ask(store: Store, commit: str = "d" * 40) -> Build:
    return await store.builds.request(
        "production", commit=commit, branch="main", message="the next", trigger=Trigger.COMMIT
    )


async def publish(store: Store, *names: str, commit: str = "d" * 40, **more: Any) -> Build:
    """A build of the functions ``names``, as far as its settings let it go."""
    build = await ask(store, commit)
    for state in STEPS:
        await store.builds.advance(build.id, BuildState(state))
    specs = tuple(FunctionSpec(name=name, module="jobs", attribute=name, is_async=False) for name in names)
    manifest = Manifest(runtime="python", interpreter="CPython 3.11.7", modules=("jobs",), functions=specs)
    return await store.builds.publish(build.id, manifest, **more)


async def held(store: Store) -> Build:
    """A build without ``hello``, for which an execution waits."""
    config = EnvironmentConfig(repository="/srv/shop", build=BuildSettings(breaking="hold"))
    await store.environments.apply("production", config, "production.toml")
    await store.executions.enqueue("production", [NewExecution(function_name="hello")])
    build = await publish(store, "add", "sleepy")
    assert build.held
    return build


async def followed(store: Store, folder: Path) -> tuple[str, str]:
    """``production`` follows a real repository: its two commits, older first."""
    repository = await anyio.to_thread.run_sync(Repository, folder / "shop", {"jobs.py": ""})
    first = await anyio.to_thread.run_sync(repository.git, "rev-parse", "HEAD")
    second = await anyio.to_thread.run_sync(repository.commit, "second", {"jobs.py": "pass"})
    config = EnvironmentConfig(repository=str(repository.path))
    await store.environments.apply("production", config, "production.toml")
    await publish(store, "hello", commit=second)
    return first, second


async def test_a_build_of_another_commit_is_named_as_people_do(
    admin: httpx.AsyncClient, store: Store, tmp_path: Path
) -> None:
    first, second = await followed(store, tmp_path)
    answer = await admin.post("/environments/production/builds", json={"commit": first[:9]})
    assert answer.status_code == 201, answer.text
    build = answer.json()["data"]
    assert (build["commit"], build["message"], build["trigger"]) == (first, "first commit", "manual")
    again = (await admin.post("/environments/production/builds", json={})).json()["data"]
    assert again["commit"] == second, "one that somebody asked for aside is not what the environment follows"


async def test_a_commit_that_is_not_there_is_wrong(admin: httpx.AsyncClient, store: Store, tmp_path: Path) -> None:
    await followed(store, tmp_path)
    for text in ("f" * 40, "nonsense", "--all", ""):
        answer = await admin.post("/environments/production/builds", json={"commit": text})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"] == "bad_request"
    for body in ({"comit": "x"}, {"commit": 7}, {"commit": "f" * 256}, []):
        assert (await admin.post("/environments/production/builds", json=body)).status_code == 400


async def test_a_repository_that_is_gone_cannot_be_asked(admin: httpx.AsyncClient, store: Store) -> None:
    answer = await admin.post("/environments/production/builds", json={"commit": "d" * 40})
    assert answer.status_code in (400, 503)
    assert "/srv/shop" in answer.json()["message"]


async def test_a_worktree_has_no_other_commit(admin: httpx.AsyncClient, store: Store) -> None:
    config = EnvironmentConfig(repository="/srv/shop", worktree=True)
    await store.environments.apply("production", config, "production.toml")
    answer = await admin.post("/environments/production/builds", json={"commit": "d" * 40})
    assert answer.status_code == 400
    assert "worktree" in answer.json()["message"]


async def test_a_build_that_waits_is_cancelled_at_once(admin: httpx.AsyncClient, store: Store) -> None:
    build = await ask(store)
    answer = (await admin.post(f"/builds/{build.id}/cancel")).json()["data"]
    assert (answer["state"], answer["error"]) == ("failed", CANCELLED)
    again = await admin.post(f"/builds/{build.id}/cancel")
    assert (again.status_code, again.json()["error"]) == (409, "conflict")
    assert (await admin.post(f"/builds/{new_id(0)}/cancel")).status_code == 404
    assert (await admin.post("/builds/7/cancel")).status_code == 400
    assert (await admin.get(f"/builds/{build.id}/cancel")).status_code == 405


async def test_a_build_that_runs_is_asked_to_end(admin: httpx.AsyncClient, store: Store, bus: Bus) -> None:
    build = await ask(store)
    await store.builds.advance(build.id, BuildState.STARTED)
    with bus.subscribe(BuildCancelRequested) as heard:
        answer = (await admin.post(f"/builds/{build.id}/cancel")).json()["data"]
        assert (await heard.receive()).build_id == build.id
    assert answer["state"] == "started"


async def test_a_held_build_is_promoted(admin: httpx.AsyncClient, store: Store) -> None:
    none = await admin.post("/environments/production/promote", json={})
    assert none.status_code == 409
    build = await held(store)
    shown = (await admin.get(f"/builds/{build.id}")).json()["data"]
    assert (shown["held"], shown["live"]) == (True, False)
    (finding,) = shown["findings"]
    assert (finding["kind"], finding["function"], finding["executions"]) == ("gone", "hello", 1)
    assert (await admin.post("/environments/production/promote", json={"build": "7"})).status_code == 400
    assert (await admin.post("/environments/production/promote", json={"bild": None})).status_code == 400
    assert (await admin.post("/environments/production/promote", json={"build": new_id(0)})).status_code == 404
    answer = (await admin.post("/environments/production/promote", json={"build": build.id})).json()["data"]
    assert (answer["id"], answer["live"], answer["held"]) == (build.id, True, False)


async def test_a_rollback_holds_until_it_is_ended(admin: httpx.AsyncClient, store: Store) -> None:
    newest = await publish(store, "hello")
    nothing = await admin.post("/environments/production/rollback", json={"resume": True})
    assert nothing.status_code == 409
    live = (await admin.post("/environments/production/rollback", json={})).json()["data"]
    assert live["number"] == 1
    environment = (await admin.get("/environments/production")).json()["data"]
    assert environment["pinned"] is True
    both = await admin.post("/environments/production/rollback", json={"resume": True, "build": newest.id})
    assert both.status_code == 400
    resumed = (await admin.post("/environments/production/rollback", json={"resume": True})).json()["data"]
    assert resumed["id"] == newest.id


async def test_a_build_says_what_it_changed(admin: httpx.AsyncClient, page: httpx.AsyncClient, store: Store) -> None:
    commit = Commit(id="e" * 40, subject="<b>Rename</b> it", author="Ada", at=1_700_000_000_000_000)
    build = await publish(store, "hello", "fresh", builder="9.9.9", commits=(commit,), more_commits=2)
    shown = (await admin.get(f"/builds/{build.id}")).json()["data"]
    assert shown["builder"] == "9.9.9"
    assert shown["changes"]["commits"][0]["at"] == "2023-11-14T22:13:20.000000Z"
    kinds = {each["name"]: each["kind"] for each in shown["changes"]["functions"]}
    assert kinds["fresh"] == "added" and kinds["sleepy"] == "removed"
    for path in (f"/builds/{build.id}", "/environments/production"):
        html = (await page.get(path)).text
        for part in ("&lt;b&gt;Rename&lt;/b&gt; it", "Ada", "fresh", "added", "and 2 commits before", "since #1"):
            assert part in html, part
    html = (await page.get(f"/builds/{build.id}")).text
    assert "9.9.9" in html and "not the server's own" in html


async def test_a_log_with_stages_is_in_the_order_of_time(admin: httpx.AsyncClient, store: Store) -> None:
    build = await ask(store)
    for state in STEPS[:3]:
        await store.builds.advance(build.id, BuildState(state))
        moment = (await store.builds.get(build.id)).steps[-1].started_at
        await store.logs.append_build(build.id, [LogLine(moment + 1, "stdout", f"in {state}")])
    await store.builds.fail(build.id, "no")
    lines = [json.loads(line) for line in (await admin.get(f"/builds/{build.id}/logs?stages=1")).text.splitlines()]
    told = [line.get("stage") or line["text"] for line in lines]
    assert told == ["in started", "started", "in cloning", "cloning", "in installing", "installing"]
    assert all(line["seconds"] >= 0 for line in lines if "stage" in line)
    plain = (await admin.get(f"/builds/{build.id}/logs")).text
    assert "stage" not in plain


async def test_stages_and_a_log_of_several_pages(admin: httpx.AsyncClient, store: Store) -> None:
    build = await ask(store)
    await store.builds.advance(build.id, BuildState.STARTED)
    moment = (await store.builds.get(build.id)).created_at
    await store.logs.append_build(build.id, [LogLine(moment, "stdout", str(n)) for n in range(2500)])
    await store.builds.advance(build.id, BuildState.CLONING)
    await store.builds.fail(build.id, "no")
    lines = [json.loads(line) for line in (await admin.get(f"/builds/{build.id}/logs?stages=1")).text.splitlines()]
    assert [line["stage"] for line in lines[2500:]] == ["started", "cloning"]
    assert [line["text"] for line in lines[:2500]] == list(map(str, range(2500)))


async def test_the_page_of_a_failed_build_shows_the_tail(page: httpx.AsyncClient, store: Store) -> None:
    build = await ask(store)
    for state in STEPS[:3]:
        await store.builds.advance(build.id, BuildState(state))
        now = (await store.builds.get(build.id)).steps[-1].started_at
        await store.logs.append_build(build.id, [LogLine(now, "stdout", f"said while {state}")])
    await store.builds.fail(build.id, "the install took too long")
    html = (await page.get(f"/builds/{build.id}")).text
    note = re.search(r'<div class="note bad" id="error".*?</div>', html, re.DOTALL)
    assert note is not None
    for part in ("Failed while installing", "the install took too long", "said while installing"):
        assert part in note[0]
    assert "said while cloning" not in note[0]


async def test_the_buttons_of_a_build_are_those_that_can_be_pressed(page: httpx.AsyncClient, store: Store) -> None:
    build = await ask(store)
    html = (await page.get(f"/builds/{build.id}")).text
    assert ">Cancel<" in html and ">Make live<" not in html and ">Build again<" not in html
    answer = await page.post(f"/builds/{build.id}/cancel")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/builds/{build.id}")
    html = (await page.get(f"/builds/{build.id}")).text
    assert 'badge cancelled"' in html and ">Cancel<" not in html
    assert "note bad" not in html, "what somebody wanted is no failure"
    again = await page.post(f"/builds/{build.id}/cancel")
    assert again.status_code == 409
    assert "badge live" in (await page.get("/environments/production")).text


async def test_functions_and_changes_show_one_signature(page: httpx.AsyncClient, store: Store) -> None:
    build = await ask(store)
    for state in STEPS:
        await store.builds.advance(build.id, BuildState(state))
    parameter = Parameter(name="dry", kind="keyword_only", annotation=None, default="False")
    spec = FunctionSpec(name="hello", module="jobs", attribute="hello", is_async=False, parameters=(parameter,))
    manifest = Manifest(runtime="python", interpreter="CPython 3.11.7", modules=("jobs",), functions=(spec,))
    await store.builds.publish(build.id, manifest)
    html = (await page.get("/environments/production")).text
    assert '<code class="quiet">(*, dry=False)</code>' in html and "<ins>(*, dry=False)</ins>" in html


async def test_a_live_build_that_changed_nothing_says_nothing(page: httpx.AsyncClient, store: Store) -> None:
    await publish(store, "hello")
    assert "What the live build changed" in (await page.get("/environments/production")).text
    await publish(store, "hello")
    assert "What the live build changed" not in (await page.get("/environments/production")).text


async def test_a_build_that_was_overtaken_has_not_failed(page: httpx.AsyncClient, store: Store) -> None:
    first = await ask(store)
    second = await ask(store, "e" * 40)
    html = (await page.get(f"/builds/{first.id}")).text
    assert 'badge overtaken"' in html and f"overtaken by build {second.number}" in html
    assert "note bad" not in html


async def test_a_held_build_is_promoted_on_the_page(page: httpx.AsyncClient, store: Store) -> None:
    build = await held(store)
    for path in (f"/builds/{build.id}", "/environments/production"):
        html = (await page.get(path)).text
        assert ">Promote<" in html and "hello" in html and "1 execution" in html and "Newly broken" in html
    assert 'badge build-held"' in (await page.get("/")).text
    answer = await page.post(f"/builds/{build.id}/promote")
    assert (answer.status_code, answer.headers["location"]) == (303, "/environments/production")
    assert (await store.environments.get("production")).live_build_id == build.id
    assert (await page.post(f"/builds/{build.id}/promote")).status_code == 409
    assert (await page.post(f"/builds/{new_id(0)}/promote")).status_code == 404


async def test_a_rollback_is_ended_on_the_page(page: httpx.AsyncClient, store: Store) -> None:
    newest = await publish(store, "hello")
    html = (await page.get("/environments/production")).text
    older = re.search(r'action="(/builds/[^"]+/rollback)"', html)
    assert older is not None
    await page.post(older[1])
    html = (await page.get("/environments/production")).text
    assert ">Resume<" in html and "It stays at build" in html
    assert 'badge live stays"' in html
    assert "stays at #1" in (await page.get("/")).text
    answer = await page.post("/environments/production/resume")
    assert (answer.status_code, answer.headers["location"]) == (303, "/environments/production")
    assert (await store.environments.get("production")).live_build_id == newest.id
    assert (await page.post("/environments/production/resume")).status_code == 409
    assert (await page.post("/environments/nowhere/resume")).status_code == 404


async def test_a_build_whose_files_are_gone_cannot_be_made_live(page: httpx.AsyncClient, store: Store) -> None:
    first = (await store.builds.list("production"))[-1]
    assert ">Make live<" not in (await page.get(f"/builds/{first.id}")).text, "it is live"
    newest = await publish(store, "hello")
    assert ">Make live<" in (await page.get(f"/builds/{first.id}")).text
    for _ in range(5):
        await publish(store, "hello")
    assert ">Make live<" not in (await page.get(f"/builds/{first.id}")).text
    html = (await page.get("/environments/production")).text
    assert f'action="/builds/{first.id}/rollback"' not in html
    assert f'action="/builds/{newest.id}/rollback"' not in html
    assert html.count(">Make live<") == 4


async def test_pages_of_builds_have_no_inline_script(page: httpx.AsyncClient, store: Store) -> None:
    build = await held(store)
    for path in (f"/builds/{build.id}", "/environments/production", "/"):
        html = (await page.get(path)).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|javascript:", html)
        ids = re.findall(r'\sid="([^"]+)"', html)
        assert len(ids) == len(set(ids)), "the script finds elements by their id"


async def test_forms_about_builds_of_another_site_are_refused(page: httpx.AsyncClient, store: Store) -> None:
    build = await held(store)
    for path in (
        f"/builds/{build.id}/cancel",
        f"/builds/{build.id}/promote",
        "/environments/production/resume",
        f"/admin/api/builds/{build.id}/cancel",
        "/admin/api/environments/production/promote",
    ):
        assert (await page.post(path, headers={"origin": "https://evil.example.org"})).status_code == 403
    assert (await store.builds.get(build.id)).held


async def preview(store: Store, branch: str, of: str = "production") -> str:
    name = f"{of}-{re.sub('[^a-z0-9]+', '-', branch).strip('-')}"
    config = EnvironmentConfig(repository="/srv/shop", branch=branch)
    await store.environments.apply(name, config, "production.toml", preview=Preview(of=of, branch=branch))
    return name


async def test_previews_stand_under_their_environment(page: httpx.AsyncClient, store: Store) -> None:
    settings = PreviewSettings(branches=("feature/*",))
    config = EnvironmentConfig(repository="/srv/shop", preview=settings)
    await store.environments.apply("production", config, "production.toml")
    assert "feature/*" in (await page.get("/environments/production")).text
    for n in range(6):
        await preview(store, f"feature/<{n}>")
    html = (await page.get("/")).text
    assert html.index("environment-production") < html.index("feature/&lt;0&gt;") < html.index("environment-staging")
    assert re.search(r'<details id="previews-production">', html), "many are folded away"
    assert "6 previews" in html
    assert "feature/&lt;5&gt;" in (await page.get("/environments/production")).text
    name = "production-feature-0"
    html = (await page.get(f"/environments/{name}")).text
    assert "A preview of" in html and 'href="/environments/production"' in html


async def test_a_preview_says_when_it_goes_and_why_it_went(page: httpx.AsyncClient, store: Store) -> None:
    config = EnvironmentConfig(repository="/srv/shop", preview=PreviewSettings(branches=("qa/*",), expire=7200.0))
    await store.environments.apply("production", config, "production.toml")
    name = await preview(store, "qa/1")
    assert "expires" not in (await page.get(f"/environments/{name}")).text, "its branch may have a newer commit"
    await store.builds.request(name, commit="d" * 40, branch="qa/1", message="x", trigger=Trigger.NEW)
    html = (await page.get(f"/environments/{name}")).text
    assert re.search(r"expires <time[^>]*>in 2h</time>", html)
    await store.environments.retire(name, "merged")
    html = (await page.get(f"/environments/{name}")).text
    assert "its branch is merged" in html and "expires" not in html
    assert ">Rebuild<" not in html and 'href="/environments/production"' in html


async def test_a_note_is_no_fault(page: httpx.AsyncClient, store: Store) -> None:
    await store.environments.note("production", "[preview] limit = 1 leaves no place for 2 more: <a>, b")
    for path in ("/", "/environments/production"):
        html = (await page.get(path)).text
        assert "no place for 2 more: &lt;a&gt;, b" in html
        assert "note bad" not in html and 'class="fault"' not in html


async def test_what_is_retired_offers_nothing_that_is_refused(page: httpx.AsyncClient, store: Store) -> None:
    build = await held(store)
    newest = await publish(store, "hello", "add", "sleepy")
    first = (await store.builds.list("production"))[-1]
    await store.builds.rollback("production", first.id)
    await store.environments.retire("production")
    for path in ("/environments/production", *(f"/builds/{each.id}" for each in (build, first, newest))):
        html = (await page.get(path)).text
        assert not re.search(r'<form[^>]* method="post"', html), path


async def test_the_push_address_is_shown_without_its_secret(page: httpx.AsyncClient, store: Store) -> None:
    assert "/hooks/push" not in (await page.get("/environments/production")).text
    config = EnvironmentConfig(repository="/srv/shop", hooks=HookSettings(secret="push-secret-of-the-shop"))
    await store.environments.apply("production", config, "production.toml")
    html = (await page.get("/environments/production")).text
    assert f"{ORIGIN}/hooks/push/production" in html
    assert "push-secret-of-the-shop" not in html


async def test_the_api_lists_environments_with_their_builds(admin: httpx.AsyncClient, store: Store) -> None:
    for _ in range(6):
        build = await ask(store)
        await store.builds.fail(build.id, "no")
    await store.environments.apply("fresh", EnvironmentConfig(repository="/srv/fresh"), "fresh.toml")
    listed = {each["name"]: each for each in (await admin.get("/environments")).json()["data"]}
    assert [build["number"] for build in listed["production"]["last_builds"]] == [7, 6, 5, 4, 3]
    assert listed["production"]["live_build"]["number"] == 1
    assert (listed["fresh"]["live_build"], listed["fresh"]["last_builds"]) == (None, [])
    one = (await admin.get("/environments/production")).json()["data"]
    assert one["last_builds"] == listed["production"]["last_builds"]
    assert one["live_build"] == listed["production"]["live_build"]
