"""Builds in a real browser: stages and log grow by themselves, buttons act, folds stay as the reader left them."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect
from starlette.applications import Starlette

from deferlite.bus import Bus
from deferlite.model.build import BuildState
from deferlite.model.environment import EnvironmentConfig, Preview, PreviewSettings
from deferlite.model.events import BuildCancelRequested
from deferlite.model.execution import LogLine
from deferlite.store import Store
from deferlite.web.services import Services
from tests.web.browser import PHONE, opened
from tests.web.test_builds import ask, held, publish

pytestmark = [pytest.mark.anyio, pytest.mark.needs("chromium")]


async def test_a_build_grows_stage_by_stage(app: Starlette, services: Services, store: Store) -> None:
    build = await ask(store)
    async with opened(app, services) as (page, address):
        await page.goto(f"{address}/builds/{build.id}")
        await expect(page.locator("#link")).to_have_text("live")
        await expect(page.locator(".steps .ahead")).to_have_count(5)
        for state in ("started", "cloning"):
            await store.builds.advance(build.id, BuildState(state))
            now = services.clock.now()
            await store.logs.append_build(build.id, [LogLine(now, "stdout", f"said while {state}")])
        await expect(page.locator("h1")).to_contain_text("cloning")
        await expect(page.locator("[aria-current=step]")).to_contain_text("cloning")
        await expect(page.locator("#step-started")).to_have_class("done")
        counting = page.locator("#step-cloning .num")
        before = await counting.inner_text()
        await expect(counting).not_to_have_text(before)
        await expect(page.locator("#log li")).to_have_text([re.compile("said while started"), re.compile("cloning")])
        await store.builds.fail(build.id, "no requirements.txt")
        error = page.get_by_role("alert")
        for part in ("Failed while cloning", "no requirements.txt", "said while cloning"):
            await expect(error).to_contain_text(part)
        await expect(page.locator(".steps .ahead")).to_have_count(0)
        await expect(page.locator("#step-cloning")).to_have_class("failed")


async def test_a_reader_of_the_log_keeps_the_place(app: Starlette, services: Services, store: Store) -> None:
    build = await ask(store)
    await store.builds.advance(build.id, BuildState.STARTED)
    await store.logs.append_build(build.id, [LogLine(0, "stdout", f"line {n}") for n in range(300)])
    async with opened(app, services) as (page, address):
        await page.goto(f"{address}/builds/{build.id}")
        await expect(page.locator("#link")).to_have_text("live")
        log = page.locator("#log")
        assert await log.evaluate("log => log.scrollTop + log.clientHeight >= log.scrollHeight - 2")
        await log.evaluate("log => { log.scrollTop = 100 }")
        await store.logs.append_build(build.id, [LogLine(0, "stdout", "one more")])
        await expect(page.locator("#log li")).to_have_count(301)
        assert await log.evaluate("log => log.scrollTop") == 100
        await log.evaluate("log => { log.scrollTop = log.scrollHeight }")
        await store.logs.append_build(build.id, [LogLine(0, "stdout", "the last")])
        await expect(page.locator("#log li")).to_have_count(302)
        await page.wait_for_function("log.scrollTop + log.clientHeight >= log.scrollHeight - 2")


async def test_a_running_build_is_cancelled(app: Starlette, services: Services, store: Store, bus: Bus) -> None:
    build = await ask(store)
    await store.builds.advance(build.id, BuildState.STARTED)
    async with opened(app, services) as (page, address):
        await page.goto(f"{address}/builds/{build.id}")
        page.on("dialog", lambda dialog: dialog.accept())
        with bus.subscribe(BuildCancelRequested) as heard:
            await page.get_by_role("button", name="Cancel").click()
            await heard.receive()
        await store.builds.fail(build.id, "cancelled")
        await expect(page.locator("h1")).to_contain_text("cancelled")
        await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


async def test_a_held_build_is_promoted_after_a_question(app: Starlette, services: Services, store: Store) -> None:
    build = await held(store)
    async with opened(app, services) as (page, address):
        await page.goto(f"{address}/builds/{build.id}")
        await expect(page.locator(".note.caution")).to_contain_text("hello")
        page.once("dialog", lambda dialog: dialog.dismiss())
        await page.get_by_role("button", name="Promote").click()
        assert (await store.builds.get(build.id)).held
        page.once("dialog", lambda dialog: dialog.accept())
        await page.get_by_role("button", name="Promote").click()
        await page.wait_for_url(f"{address}/environments/production")
        await expect(page.locator(f"#build-{build.id}")).to_contain_text("live")


async def previews(store: Store, count: int) -> None:
    config = EnvironmentConfig(repository="/srv/shop", preview=PreviewSettings(branches=("qa/*",)))
    await store.environments.apply("production", config, "production.toml")
    for n in range(count):
        shown = Preview(of="production", branch=f"qa/{n}" + "x" * 80)
        config = EnvironmentConfig(repository="/srv/shop", branch=shown.branch)
        await store.environments.apply(f"production-qa-{n}", config, "production.toml", preview=shown)


async def test_a_fold_stays_as_the_reader_left_it(app: Starlette, services: Services, store: Store) -> None:
    await previews(store, 7)
    async with opened(app, services) as (page, _):
        await expect(page.locator("#link")).to_have_text("live")
        last = page.locator("#environment-production-qa-6")
        await expect(last).to_be_hidden()
        await page.locator("summary").click()
        await expect(last).to_be_visible()
        await store.environments.report("production-qa-6", "branch qa/6 is not there")
        await expect(page.locator("#fault-production-qa-6")).to_be_visible()
        await expect(last).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_shows_builds_and_previews(app: Starlette, services: Services, store: Store, scheme: str) -> None:
    await previews(store, 3)
    build = await ask(store)
    await store.builds.advance(build.id, BuildState.STARTED)
    await store.logs.append_build(build.id, [LogLine(services.clock.now(), "stdout", "x" * 300)])
    await store.builds.fail(build.id, "y" * 300)
    async with opened(app, services, viewport=PHONE, color_scheme=scheme) as (page, address):
        for path in ("/", "/environments/production", f"/builds/{build.id}", "/environments/production-qa-0"):
            await page.goto(address + path)
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= PHONE["width"], path


async def test_a_rollback_is_ended_where_it_is_told(app: Starlette, services: Services, store: Store) -> None:
    newest = await publish(store, "hello")
    async with opened(app, services) as (page, address):
        page.on("dialog", lambda dialog: dialog.accept())
        await page.goto(f"{address}/environments/production")
        await page.get_by_role("button", name="Make live").click()
        await expect(page.locator(".note.pinned")).to_contain_text("It stays at build #1")
        await expect(page.locator(f"#build-{newest.id} .badge")).to_have_text("succeed")
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator(".note.pinned")).to_have_count(0)
        await expect(page.locator(f"#build-{newest.id}")).to_contain_text("live")


async def test_what_is_left_out_is_told_as_it_comes(app: Starlette, services: Services, store: Store) -> None:
    async with opened(app, services) as (page, _):
        await expect(page.locator("#link")).to_have_text("live")
        await store.environments.note("production", "no place for 2 more")
        await expect(page.locator("#previews-of-production")).to_have_text("no place for 2 more")
        await store.environments.note("production", None)
        await expect(page.locator("#previews-of-production")).to_have_count(0)
