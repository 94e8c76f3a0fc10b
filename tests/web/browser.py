"""A real browser on the application, for the tests that look at pages as people do."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from playwright.async_api import Browser, Page, async_playwright
from starlette.applications import Starlette

from deferlite.web.listen import bind_tcp, serve_app
from deferlite.web.services import Services

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 360, "height": 740}


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    """The app on a port of its own; the page's address."""
    sock = bind_tcp("127.0.0.1", 0)
    async with anyio.create_task_group() as tasks:
        await tasks.start(serve_app, app, sock)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        try:
            yield launched
        finally:
            await launched.close()


@asynccontextmanager
async def opened(app: Starlette, services: Services, **options: Any) -> AsyncIterator[tuple[Page, str]]:
    """A signed-in page and the server's address; a fault of the script or the policy fails the test."""
    faults: list[str] = []
    async with served(app) as address, browser() as launched:
        context = await launched.new_context(**options)
        page = await context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        await page.goto(f"{address}/?key={services.admin_key}")
        yield page, address
        await context.close()
    assert faults == []
