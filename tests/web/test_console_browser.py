"""The page in a real browser: live without reloading, whole without JavaScript, readable on a phone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import expect
from starlette.applications import Starlette

from deferlite.model.execution import Ending, LogLine, NewExecution, Outcome
from deferlite.store import Store
from deferlite.web.services import Services
from tests.web.browser import PHONE, opened

pytestmark = [pytest.mark.anyio, pytest.mark.needs("chromium")]


async def enqueue(store: Store, **more: Any) -> str:
    item = NewExecution(function_name="hello", **more)
    return (await store.executions.enqueue("production", [item]))[0].id


async def test_the_key_is_gone_from_the_address(app: Starlette, services: Services) -> None:
    async with opened(app, services) as (page, address):
        assert page.url == f"{address}/"
        await expect(page.get_by_role("link", name="production").first).to_be_visible()


async def test_the_overview_follows_the_store(app: Starlette, services: Services, store: Store, stand_in: Any) -> None:
    async with opened(app, services) as (page, _):
        await page.evaluate("window.stillTheSamePage = true")
        await expect(page.locator("#link")).to_have_text("live")
        id = await enqueue(store)
        row = page.locator(f"#execution-{id}")
        await expect(row).to_contain_text("created")
        await expect(page.locator("#environment-production td[data-label=Queued]")).to_have_text("1")
        (claimed,) = await stand_in.start("hello")
        await expect(row).to_contain_text("started")
        await stand_in.end(claimed, _outcome())
        await expect(row).to_contain_text("succeed")
        assert await page.evaluate("window.stillTheSamePage")


async def test_an_execution_and_its_log_grow(app: Starlette, services: Services, store: Store, stand_in: Any) -> None:
    id = await enqueue(store)
    (claimed,) = await stand_in.start("hello")
    await store.logs.append(id, 1, [LogLine(0, "stdout", "first")])
    async with opened(app, services) as (page, address):
        # Before the first refresh, which comes with the connection.
        await page.add_init_script(
            "document.addEventListener('DOMContentLoaded', () => document.getElementById('rerun').focus())"
        )
        await page.goto(f"{address}/executions/{id}")
        await expect(page.locator("#link")).to_have_text("live")
        for n in range(3):
            await store.logs.append(id, 1, [LogLine(0, "stderr", f"more {n}")])
        await expect(page.locator("#log li")).to_have_text(
            [re.compile(t) for t in ("first", "more 0", "more 1", "more 2")]
        )
        await stand_in.end(claimed, _outcome())
        await expect(page.locator("h1")).to_contain_text("succeed")
        await expect(page.locator("pre", has_text="imported")).to_be_visible()
        await expect(page.get_by_role("button", name="Run again")).to_be_focused()
        await expect(page.locator("#log li")).to_have_count(4)


async def test_a_long_log_comes_whole(app: Starlette, services: Services, store: Store) -> None:
    id = await enqueue(store)
    await store.logs.append(id, 1, [LogLine(0, "stdout", f"line {n}") for n in range(4500)])
    async with opened(app, services) as (page, address):
        await page.goto(f"{address}/executions/{id}")
        await expect(page.locator("#log li")).to_have_count(4500)
        await expect(page.locator("#log-more")).to_be_hidden()


async def test_forms_work_in_the_browser(app: Starlette, services: Services, store: Store) -> None:
    id = await enqueue(store, scheduled_at=services.clock.now() + 3_600_000_000)
    async with opened(app, services) as (page, address):
        await page.goto(f"{address}/executions/{id}")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.locator("h1")).to_contain_text("cancelled")
        await page.get_by_role("button", name="Run again").click()
        await expect(page.get_by_role("link", name="a re-run of this one")).to_be_visible()


async def test_everything_is_there_without_javascript(
    app: Starlette, services: Services, store: Store, stand_in: Any
) -> None:
    id = await enqueue(store)
    await store.logs.append(id, 1, [LogLine(0, "stdout", "a line")])
    await stand_in.succeed("hello", {"imported": 12})
    async with opened(app, services, java_script_enabled=False) as (page, address):
        await expect(page.locator(f"#execution-{id}")).to_contain_text("succeed")
        await page.goto(f"{address}/executions/{id}")
        await expect(page.locator("#log")).to_contain_text("a line")
        await expect(page.locator("main")).to_contain_text("imported")
        await page.get_by_role("button", name="Run again").click()
        await expect(page.locator("h1")).to_contain_text("created")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_needs_no_sideways_scrolling(
    app: Starlette, services: Services, store: Store, stand_in: Any, scheme: str
) -> None:
    words = "x" * 300
    id = await enqueue(store, arguments=f'["{words}"]', metadata={"user": "y" * 200})
    await store.logs.append(id, 1, [LogLine(0, "stdout", words)])
    await stand_in.fail("hello", words)
    await store.environments.reject("staging", f"staging.toml, line 2: {words}", "staging.toml")
    async with opened(app, services, viewport=PHONE, color_scheme=scheme) as (page, address):
        for path in ("/", "/environments/production", "/environments/staging", f"/executions/{id}", "/executions"):
            await page.goto(address + path)
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= PHONE["width"], path


def _outcome() -> Any:
    return Outcome(ending=Ending.RETURNED, result='{"imported": 12}')
