"""The pages as HTML, without a browser: what they say, what their forms do, who may see them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette

from deferlite.bus import Bus
from deferlite.model.build import BuildState, Trigger
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.events import BuildLogged, EnvironmentChanged, ExecutionChanged, ExecutionLogged
from deferlite.model.execution import LogLine, NewExecution, State
from deferlite.model.ids import new_id
from deferlite.store import Store
from deferlite.web import words
from deferlite.web.events import Topic, each_event, hints
from deferlite.web.services import Services

pytestmark = pytest.mark.anyio
ORIGIN = "http://127.0.0.1:3337"
HOUR = 3_600_000_000


@pytest.fixture
async def page(app: Starlette, services: Services) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that came by the address with the key."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers={"origin": ORIGIN}) as client:
        signed_in = await client.get("/", params={"key": services.admin_key})
        assert signed_in.status_code == 303
        yield client


async def enqueue(store: Store, function: str = "hello", **more: Any) -> str:
    item = NewExecution(function_name=function, **more)
    return (await store.executions.enqueue("production", [item]))[0].id


async def test_without_the_key_the_page_says_how_to_get_in(anonymous: httpx.AsyncClient) -> None:
    for path in ("/", "/environments/production", "/executions", "/events", "/static/deferlite.css"):
        answer = await anonymous.get(path, headers={"accept": "text/html"})
        assert answer.status_code == 401
        assert "deferlite open" in answer.text


async def test_the_overview_shows_environments_builds_and_executions(page: httpx.AsyncClient, store: Store) -> None:
    id = await enqueue(store, metadata={"user": "7"})
    html = (await page.get("/")).text
    for part in ("production", "staging", "cccccccc", "a commit", f"/executions/{id}", "user=7", "/builds/"):
        assert part in html
    assert "none in these tests" in html, "a sandbox below bubblewrap is said on the page"


async def test_a_broken_file_is_shown_with_its_fault(page: httpx.AsyncClient, store: Store) -> None:
    await store.environments.reject("production", "production.toml, line 2: branch: <b>wrong</b>", "production.toml")
    for path in ("/", "/environments/production"):
        html = (await page.get(path)).text
        assert "line 2: branch: &lt;b&gt;wrong" in html
        assert "broken file" in html
    config = EnvironmentConfig(repository="/srv/shop")
    await store.environments.apply("production", config, "production.toml")
    await store.environments.report("production", "/srv/shop: there is no such folder")
    for address in ("/", "/environments/production"):
        html = (await page.get(address)).text
        assert "/srv/shop: there is no such folder" in html and "no repository" in html


async def test_an_environment_shows_no_secret(page: httpx.AsyncClient, store: Store) -> None:
    config = EnvironmentConfig(repository="https://me:hunter2@git.example.org/shop", env={"STRIPE_KEY": "sk_live_1"})
    await store.environments.apply("production", config, "production.toml")
    html = (await page.get("/environments/production")).text
    assert "STRIPE_KEY" in html
    assert "sk_live_1" not in html
    assert "hunter2" not in html


async def test_a_build_shows_steps_error_and_log(page: httpx.AsyncClient, store: Store) -> None:
    build = await store.builds.request(
        "production", commit="d" * 40, branch="main", message="x", trigger=Trigger.COMMIT
    )
    await store.builds.advance(build.id, BuildState.STARTED)
    await store.builds.advance(build.id, BuildState.CLONING)
    await store.logs.append_build(build.id, [LogLine(0, "stdout", "\x1b[31mred <script>\x1b[0m")])
    await store.builds.fail(build.id, "add stripe to requirements.txt")
    html = (await page.get(f"/builds/{build.id}")).text
    for part in ("cloning", "add stripe to requirements.txt", "red &lt;script&gt;", "Build again"):
        assert part in html
    assert "\x1b" not in html


async def test_an_execution_shows_arguments_result_attempts_and_log(
    page: httpx.AsyncClient, store: Store, stand_in: Any
) -> None:
    id = await enqueue(store, arguments='["<acme>"]', keyword_arguments='{"dry": true}')
    child = await enqueue(store, "add", parent_id=id)
    await store.logs.append(id, 1, [LogLine(0, "stderr", "half way")])
    await stand_in.succeed("hello", {"imported": 12})
    html = (await page.get(f"/executions/{id}")).text
    for part in ("&lt;acme&gt;", "dry", "imported", "12", "half way", f"/executions/{child}", "succeed"):
        assert part in html
    assert f"/executions/{id}" in (await page.get(f"/executions/{child}")).text


async def test_a_failed_execution_shows_its_error(page: httpx.AsyncClient, store: Store, stand_in: Any) -> None:
    id = await enqueue(store)
    await stand_in.fail("hello", "no such <customer>")
    html = (await page.get(f"/executions/{id}")).text
    for part in ("ValueError", "no such &lt;customer&gt;", "ER0003", "Traceback …"):
        assert part in html


async def test_an_execution_that_waits_says_why(page: httpx.AsyncClient, store: Store, services: Services) -> None:
    id = await enqueue(store, scheduled_at=services.clock.now() + HOUR)
    html = (await page.get(f"/executions/{id}")).text
    assert "its time has not come" in html
    assert "Run now" in html


async def test_executions_are_filtered_and_paged(page: httpx.AsyncClient, store: Store) -> None:
    ids = [await enqueue(store, "add", metadata={"user": "7"}) for _ in range(3)]
    other = await enqueue(store, "hello")
    query = {"environment": "production", "function": "add", "metadata": "user=7", "state": "created", "error_code": ""}
    html = (await page.get("/executions", params=query)).text
    assert all(f"/executions/{id}" in html for id in ids)
    assert f"/executions/{other}" not in html
    first = (await page.get("/executions", params={"function": "add", "first": 2})).text
    older = re.search(r'href="([^"]+)" rel="next"', first)
    assert older is not None
    second = (await page.get(older[1].replace("&amp;", "&"))).text
    assert f"/executions/{ids[0]}" in second
    assert f"/executions/{ids[2]}" not in second
    newer = re.search(r'href="([^"]+)" rel="prev"', second)
    assert newer is not None
    assert f"/executions/{ids[1]}" in (await page.get(newer[1].replace("&amp;", "&"))).text


async def test_what_is_not_there_is_a_page_that_says_so(page: httpx.AsyncClient) -> None:
    for path, status in (
        ("/environments/nowhere", 404),
        (f"/executions/{new_id(0)}", 404),
        ("/executions/7", 400),
        ("/executions?state=runing", 400),
        ("/executions?after=<b>", 400),
        (f"/builds/{new_id(0)}?after=x", 400),
    ):
        answer = await page.get(path)
        assert answer.status_code == status, path
        assert "<main" in answer.text
        assert "<b>" not in answer.text


async def test_forms_act_and_lead_back(page: httpx.AsyncClient, store: Store, services: Services) -> None:
    id = await enqueue(store, scheduled_at=services.clock.now() + HOUR)
    answer = await page.post(f"/executions/{id}/run-now")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/executions/{id}")
    assert (await store.executions.get(None, id)).scheduled_at <= services.clock.now()
    await page.post(f"/executions/{id}/cancel")
    assert (await store.executions.get(None, id)).state is State.CANCELLED
    rerun = (await page.post(f"/executions/{id}/rerun")).headers["location"].rpartition("/")[2]
    assert (await store.executions.get(None, rerun)).rerun_of == id
    refused = await page.post(f"/executions/{id}/cancel")
    assert refused.status_code == 409
    assert "cancel" in refused.text


async def test_a_running_execution_can_be_aborted(page: httpx.AsyncClient, store: Store, stand_in: Any) -> None:
    id = await enqueue(store)
    await stand_in.start("hello")
    assert "Abort" in (await page.get(f"/executions/{id}")).text
    await page.post(f"/executions/{id}/abort")
    assert (await store.executions.get(None, id)).state is State.ABORTING


async def test_rebuild_leads_to_the_new_build(page: httpx.AsyncClient, store: Store) -> None:
    answer = await page.post("/environments/production/build")
    build = await store.builds.get(answer.headers["location"].rpartition("/")[2])
    assert (build.number, build.trigger) == (2, Trigger.MANUAL)


async def test_a_form_of_another_site_is_refused(page: httpx.AsyncClient, store: Store) -> None:
    id = await enqueue(store)
    answer = await page.post(f"/executions/{id}/cancel", headers={"origin": "https://evil.example.org"})
    assert answer.status_code == 403
    assert (await store.executions.get(None, id)).state is State.CREATED


async def test_pages_allow_no_foreign_and_no_inline_script(page: httpx.AsyncClient, store: Store) -> None:
    id = await enqueue(store)
    for path in ("/", "/executions", f"/executions/{id}", "/environments/production"):
        answer = await page.get(path)
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|javascript:", answer.text)
        assert "<noscript" not in answer.text


async def test_static_files_are_kept_for_ever_by_their_hash(page: httpx.AsyncClient) -> None:
    html = (await page.get("/")).text
    for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', html):
        answer = await page.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert (await page.get("/static/deferlite.css?v=old")).headers["cache-control"] == "no-cache"
    assert (await page.get("/static/..%2fviews.py")).status_code == 404


async def test_a_fragment_is_the_part_that_changes(page: httpx.AsyncClient, store: Store) -> None:
    id = await enqueue(store)
    main = (await page.get(f"/executions/{id}", params={"fragment": "main"})).text
    assert "<html" not in main
    assert "hello" in main
    lines = [LogLine(0, "stdout", f"line {n}") for n in range(3)]
    await store.logs.append(id, 1, lines)
    whole = (await page.get(f"/executions/{id}", params={"fragment": "below", "after": 0})).text
    after = re.search(r'data-next="(\d+)"', whole)
    assert after is not None
    assert "line 2" in whole
    rest = (await page.get(f"/executions/{id}", params={"fragment": "below", "after": after[1]})).text
    assert "line 2" not in rest


async def test_a_long_log_is_read_page_by_page(page: httpx.AsyncClient, store: Store) -> None:
    id = await enqueue(store)
    await store.logs.append(id, 1, [LogLine(0, "stdout", f"line {n}") for n in range(2001)])
    first = (await page.get(f"/executions/{id}")).text
    assert "line 1999<" in first
    assert "line 2000<" not in first
    more = re.search(r'<p id="log-more"><a href="([^"]+)#log">', first)
    assert more is not None
    second = (await page.get(f"/executions/{id}{more[1]}")).text
    assert "line 2000<" in second
    assert '<p id="log-more" hidden>' in second


async def test_an_event_is_encoded_once_for_all_streams() -> None:
    bus = Bus()
    streams = [each_event(bus) for _ in range(2)]
    for stream in streams:
        await anext(stream)
    bus.publish(EnvironmentChanged(environment="staging"))
    with anyio.fail_after(5):
        first, second = [await anext(stream) for stream in streams]
    assert first.startswith('event: environment_changed\ndata: {"environment":"staging"')
    assert first is second
    for stream in streams:
        await stream.aclose()


async def test_hints_are_about_the_page_and_come_at_a_pace() -> None:
    bus, heard = Bus(), []
    execution = new_id(0)
    with anyio.fail_after(5):
        stream = hints(bus, Topic("production", execution))
        assert "event: changed" in await anext(stream)
        for n in range(100):
            bus.publish(EnvironmentChanged(environment="staging"))
            bus.publish(BuildLogged(environment="production", build_id=new_id(n)))
            bus.publish(ExecutionLogged(environment="production", execution_id=execution, attempt=1))
        heard.append(await anext(stream))
        changed = ExecutionChanged(
            environment="production", execution_id=new_id(1), function_name="hello", state=State.STARTED
        )
        for _ in range(100):
            bus.publish(changed)
        heard.append(await anext(stream))
        await stream.aclose()
    assert heard == ["event: logged\ndata: 1\n\n", "event: changed\ndata: 1\n\n"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.038, "38 ms"), (0.9999, "1.0 s"), (1.24, "1.2 s"), (59.97, "1m 00s"), (185, "3m 05s"), (7800, "2h 10m")],
)
async def test_durations_are_as_precise_as_makes_sense(seconds: float, text: str) -> None:
    assert words.exact(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "now"), (42, "42s ago"), (119, "2m ago"), (7199, "2h ago"), (-7199, "in 2h"), (172_800, "2d ago")],
)
async def test_ages_are_rounded(seconds: float, text: str) -> None:
    assert words.age(seconds) == text


async def test_foreign_text_loses_its_escapes() -> None:
    assert words.plain("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07\ta\x00b\r") == "red link\tab"
