"""The composition root: puts the rooms together, starts them in order and stops them in reverse."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from deferlite import __version__
from deferlite.builder.layout import Layout
from deferlite.builder.published import PublishedBuilds
from deferlite.builder.service import BuildService
from deferlite.builder.sources import history_of
from deferlite.bus import Bus
from deferlite.executors.local import LocalExecutor
from deferlite.model.clock import Clock, SystemClock
from deferlite.model.ids import ExecutionTokens
from deferlite.sandbox.levels import probe
from deferlite.scheduler.dispatcher import Dispatcher
from deferlite.scheduler.orders import OrderBook
from deferlite.scheduler.recovery import recover
from deferlite.scheduler.timers import Timers
from deferlite.settings import Settings, make_home
from deferlite.store import Store
from deferlite.watcher.environments import EnvironmentFiles
from deferlite.watcher.repositories import Repositories
from deferlite.web.app import create_app
from deferlite.web.listen import bind_tcp, bind_unix, serve_app
from deferlite.web.services import Services
from deferlite.web.session import trusted

log = logging.getLogger("deferlite")


class Running(msgspec.Struct, frozen=True):
    """A server that is ready. ``page`` is the status page's address with its key."""

    store: Store
    bus: Bus
    endpoint: str
    page: str


OnReady = Callable[[Running], Coroutine[Any, Any, None]]


async def serve(settings: Settings, on_ready: OnReady | None = None, clock: Clock | None = None) -> None:
    """Run everything until SIGTERM or SIGINT: the first one drains, a second one stops at once.

    Raises:
        DeferliteError: the home, the database, the sandbox or the address cannot be used; the message has the cure.
    """
    clock = clock or SystemClock()
    await anyio.to_thread.run_sync(_prepare_home, settings)
    bus = Bus()
    store = await Store.open(settings.database, clock, bus)
    try:
        await _serve_store(settings, store, bus, clock, on_ready)
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()
    log.info("stopped")


async def _serve_store(settings: Settings, store: Store, bus: Bus, clock: Clock, on_ready: OnReady | None) -> None:
    status = await probe(settings.sandbox)
    log.log(logging.INFO if status.level == "bubblewrap" else logging.WARNING, "sandbox: %s", status.detail)
    boot_id = secrets.token_hex(8)
    await recover(store, boot_id)
    public = bind_tcp(settings.address, settings.port)
    private = bind_unix(settings.socket)
    endpoint = settings.endpoint or _address(public)
    tokens = ExecutionTokens()
    dispatcher = Dispatcher(store, bus, OrderBook(tokens, endpoint), limit=settings.concurrency, boot_id=boot_id)
    layout = Layout(settings.home)
    builds = BuildService(store, bus, layout, status, clock, max_builds=settings.builds)
    key = await anyio.to_thread.run_sync(_admin_key, settings.admin_token)
    ready, stopping = anyio.Event(), anyio.Event()
    services = Services(
        store=store,
        bus=bus,
        clock=clock,
        settings=settings,
        execution_tokens=tokens,
        admin_key=key,
        sandbox=status,
        home=settings.home,
        endpoint=endpoint,
        version=__version__,
        started_at=clock.now(),
        ready=lambda: ready.is_set() and not stopping.is_set(),
    )
    scratch = settings.home / "scratch"
    async with (
        LocalExecutor(dispatcher, status, PublishedBuilds(store, layout), scratch, clock) as executor,
        _running_group() as group,
    ):
        app = create_app(services)
        await group.start(serve_app, app, public)
        await group.start(serve_app, trusted(app), private)
        group.start_soon(dispatcher.run, executor)
        async with _running_group() as intake:
            intake.start_soon(Timers(store, bus, clock).run)
            intake.start_soon(builds.run)
            await intake.start(EnvironmentFiles(store, bus, settings.environments, clock).run)
            intake.start_soon(Repositories(store, bus, clock, partial(history_of, layout)).run)
            ready.set()
            log.info("ready on %s", endpoint)
            if on_ready is not None:
                intake.start_soon(on_ready, Running(store, bus, endpoint, f"{endpoint}/?key={key}"))
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                await anext(signals)
                stopping.set()
                await _drain(signals, dispatcher, executor, settings.drain)


async def _drain(
    signals: AsyncIterator[signal.Signals], dispatcher: Dispatcher, executor: LocalExecutor, drain: float
) -> None:
    log.info("stopping: running executions get %g s, a second signal stops at once", drain)
    async with anyio.create_task_group() as stopping:

        async def hurry() -> None:
            await anext(signals)
            log.info("stopping at once")
            await executor.stop(0)

        stopping.start_soon(hurry)
        await dispatcher.drain(executor, drain)
        stopping.cancel_scope.cancel()


@asynccontextmanager
async def _running_group() -> AsyncIterator[anyio.abc.TaskGroup]:
    """A task group whose tasks run until the block ends, however it ends."""
    async with anyio.create_task_group() as group:
        try:
            yield group
        finally:
            group.cancel_scope.cancel()


def _prepare_home(settings: Settings) -> None:
    make_home(settings.home, settings.environments)
    if settings.home.stat().st_mode & 0o077:
        log.warning("other users of this machine may read %s: `chmod 700 %s` mends it", settings.home, settings.home)


def _admin_key(path: Path) -> str:
    """The key to the page, made at the first start; only this user may read it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        key = file.read().strip()
        if not key:
            key = secrets.token_urlsafe(24)
            file.write(key + "\n")
    return key


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
