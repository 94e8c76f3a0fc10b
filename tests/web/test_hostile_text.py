"""Text that others wrote (commits, branches, functions, logs, errors) is text on every page, and nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from deferlite.model.build import BuildState, Trigger
from deferlite.model.changes import Commit
from deferlite.model.environment import BuildSettings, EnvironmentConfig, Preview, PreviewSettings
from deferlite.model.execution import LogLine, NewExecution
from deferlite.model.function import FunctionOptions, FunctionSpec, Manifest, Parameter
from deferlite.store import Store
from deferlite.web.services import Services
from tests.web.conftest import client_of

pytestmark = pytest.mark.anyio
ORIGIN = "http://127.0.0.1:3337"
EVIL = "\x1b[31m<b onclick=alert(1)>\x1b[0m'\"&\x9b2J\x1b]0;t\x07\u202e{{ 7 * 7 }}"
STEPS = ("started", "cloning", "installing", "compiling", "publishing")


@pytest.fixture
async def page(app: Starlette, services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, headers={"origin": ORIGIN}) as client:
        await client.get("/", params={"key": services.admin_key})
        yield client


def spec(name: str, **more: Any) -> FunctionSpec:
    parameter = Parameter(name="a", kind="positional_or_keyword", annotation=EVIL, default=EVIL)
    return FunctionSpec(
        name=name, module="jobs", attribute="f", is_async=False, doc=EVIL, parameters=(parameter,), **more
    )


async def publish(store: Store, *specs: FunctionSpec) -> str:
    asked = await store.builds.request("production", commit="d" * 40, branch=EVIL, message=EVIL, trigger=Trigger.COMMIT)
    for state in STEPS:
        await store.builds.advance(asked.id, BuildState(state))
        await store.logs.append_build(asked.id, [LogLine(0, "stdout", EVIL)])
    manifest = Manifest(runtime="python", interpreter=EVIL, modules=(EVIL,), functions=specs)
    commits = (Commit(id="e" * 40, subject=EVIL, author=EVIL, at=0),)
    return (await store.builds.publish(asked.id, manifest, builder=EVIL, commits=commits)).id


async def hostile(store: Store, stand_in: Any) -> list[str]:
    """Every kind of foreign text in the store; the addresses of the pages that show it."""
    settings = PreviewSettings(branches=(EVIL,))
    config = EnvironmentConfig(
        repository="/srv/" + EVIL, build=BuildSettings(breaking="hold"), preview=settings, env={EVIL: EVIL}
    )
    await store.environments.apply("production", config, EVIL)
    good = await publish(store, spec(EVIL), spec("hello", options=FunctionOptions(concurrency=2)))
    await store.executions.enqueue("production", [NewExecution(function_name=EVIL, arguments='["<b onclick=1>"]')])
    held = await publish(store, spec("hello", options=FunctionOptions(concurrency=3), aliases=(EVIL + "2",)))
    (execution,) = await store.executions.enqueue("production", [NewExecution(function_name="hello")])
    await store.logs.append(execution.id, 1, [LogLine(0, "stderr", EVIL)])
    await stand_in.fail("hello", EVIL)
    failed = await store.builds.request("production", commit=None, branch=EVIL, message=EVIL, trigger=Trigger.COMMIT)
    await store.builds.advance(failed.id, BuildState.STARTED)
    await store.logs.append_build(failed.id, [LogLine(0, "stderr", EVIL)])
    await store.builds.fail(failed.id, f"{EVIL}\n{EVIL}")
    await store.environments.apply(
        "preview", EnvironmentConfig(repository="/srv/shop"), EVIL, Preview(of="production", branch=EVIL)
    )
    await store.environments.note("production", EVIL)
    await store.environments.report("preview", EVIL)
    await store.environments.reject("staging", EVIL, EVIL)
    builds = [f"/builds/{id}" for id in (good, held, failed.id)]
    environments = [f"/environments/{name}" for name in ("production", "staging", "preview")]
    return ["/", *environments, *builds, "/executions", f"/executions/{execution.id}"]


async def test_foreign_text_is_text_on_every_page(page: httpx.AsyncClient, store: Store, stand_in: Any) -> None:
    for path in await hostile(store, stand_in):
        html = (await page.get(path)).text
        assert "&lt;b onclick=alert(1)&gt;" in html, path
        assert "<b " not in html, path
        assert "{{ 7 * 7 }}" in html, path
        odd = {char for char in html if not char.isprintable() and char not in "\n\t"}
        assert not odd, (path, odd)


async def test_an_address_is_text_too(page: httpx.AsyncClient) -> None:
    for path in ("/environments/<b>", "/executions?state=<b>", "/executions?function=<b>&metadata=<b>=1", "/<b>"):
        answer = await page.get(path)
        assert answer.headers["content-type"] == "application/json" or not re.search("<b>", answer.text), path
