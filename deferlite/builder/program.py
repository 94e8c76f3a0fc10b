"""The builder: an order in, events out (protocol.py). Called in the server's process, or run as a program."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from deferlite import __version__
from deferlite.builder.layout import BuildFolder, Layout
from deferlite.builder.protocol import PROTOCOL, BuildOrder, Event, Failed, Hello, Line, Listener, Made, Step
from deferlite.builder.runtimes import Installed, Runtime
from deferlite.builder.runtimes.python import PythonRuntime
from deferlite.builder.workspace import ProjectSettings, Workspace, expect
from deferlite.model.build import BuildState
from deferlite.model.environment import BuildSettings
from deferlite.model.errors import BuildError, DeferliteError
from deferlite.model.function import Manifest
from deferlite.runner.trees import die_with_parent
from deferlite.sandbox.levels import Level, SandboxStatus


def make_runtimes(layout: Layout) -> Mapping[str, Runtime]:
    """What this builder can build, by name."""
    python = PythonRuntime(layout)
    return {python.name: python}


async def carry_out(
    order: BuildOrder, runtimes: Mapping[str, Runtime], listener: Listener, stack: AsyncExitStack
) -> Manifest:
    """All of a build that runs the project's code. ``stack`` holds what the build uses until it is published.

    Raises:
        BuildError: the project is wrong, or the order is not for this builder.
        WorldError, SandboxError: the network, the disk or the box is.
    """
    workspace = _workspace(order, listener)
    runtime = _runtime(workspace.config.build, runtimes)
    # Whoever tidies up sees by its time that the cache is in use.
    with suppress(FileNotFoundError):
        os.utime(workspace.layout.uv_cache(order.environment))
    async with workspace.scratch():
        await listener.step(BuildState.INSTALLING)
        installed = await _install(workspace, runtime, stack)
        prebuild = workspace.config.build.prebuild
        if prebuild is not None:
            await listener.step(BuildState.GENERATING)
            await _prebuild(workspace, installed, prebuild)
        await listener.step(BuildState.COMPILING)
        return await runtime.discover(workspace, installed)


def _workspace(order: BuildOrder, listener: Listener) -> Workspace:
    return Workspace(
        build=order,
        config=ProjectSettings(build=_settings(order.settings, listener)),
        layout=Layout(Path(order.home)),
        folder=BuildFolder(Path(order.folder)),
        project=Path(order.project),
        env=order.env,
        status=_sandbox(order),
        journal=listener,
        hidden=tuple(map(Path, order.hidden)),
    )


def _settings(given: dict[str, Any], listener: Listener) -> BuildSettings:
    known = {key: value for key, value in given.items() if key in BuildSettings.__struct_fields__}
    for key in sorted(set(given) - set(known)):
        listener.say(f"this builder, deferlite {__version__}, does not know [build] {key}: it is not used")
    try:
        return msgspec.convert(known, BuildSettings)
    except msgspec.ValidationError as error:
        raise BuildError(f"deferlite {__version__} cannot read [build]: {error}") from None


def _sandbox(order: BuildOrder) -> SandboxStatus:
    try:
        return SandboxStatus(level=Level(order.sandbox), detail="", bwrap=order.bwrap)
    except ValueError:
        raise BuildError(f'deferlite {__version__} has no sandbox level "{order.sandbox}"') from None


def _runtime(settings: BuildSettings, runtimes: Mapping[str, Runtime]) -> Runtime:
    name = settings.runtime or "python"
    if name not in runtimes:
        there = ", ".join(runtimes)
        raise BuildError(f'[build] runtime = "{name}" is not there yet: this deferlite builds {there}')
    return runtimes[name]


async def _install(workspace: Workspace, runtime: Runtime, stack: AsyncExitStack) -> Installed:
    plan = await anyio.to_thread.run_sync(runtime.plan, workspace.files, workspace.config.build)
    for note in plan.notes:
        workspace.journal.say(note)
    return await runtime.install(workspace, plan, stack)


async def _prebuild(workspace: Workspace, installed: Installed, command: str) -> None:
    workspace.journal.say(f"$ {command}")
    done = await workspace.command(
        ["sh", "-c", command],
        venv=installed.venv,
        read_only=(installed.venv, *installed.read_only),
    )
    expect(done, f"[build] prebuild = {command!r}", "mend the command or what it runs")
    if not await anyio.Path(workspace.project).is_dir():
        raise BuildError(f"[build] prebuild = {command!r} has removed the project's folder: mend the command")


class _Speaker:
    """A ``Listener`` that says what it hears on a descriptor, as events."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tell(self, event: Event) -> None:
        # To the last byte: the server reads all the time, so this waits for nobody else.
        rest = memoryview(msgspec.json.encode(event) + b"\n")
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def say(self, text: str) -> None:
        self.line("system", text)

    def line(self, stream: str, text: str) -> None:
        self.tell(Line(stream=stream, text=text.encode(errors="backslashreplace").decode()))

    async def step(self, state: BuildState) -> None:
        self.tell(Step(state=state.value))


def main() -> int:
    """The program. Exit status 0: it has said how the build went; 1: it was told to stop, or broke."""
    die_with_parent()
    speaker = _Speaker(os.dup(1))
    # What anything in here prints is not of the protocol.
    os.dup2(2, 1)
    try:
        order = msgspec.json.decode(sys.stdin.buffer.read(), type=BuildOrder)
    except msgspec.DecodeError as error:
        speaker.tell(Failed(kind="internal", message=f"the order cannot be read: {error}"))
        return 0
    return anyio.run(_serve, order, speaker)


async def _serve(order: BuildOrder, speaker: _Speaker) -> int:
    speaker.tell(Hello(version=__version__, protocol=min(order.protocol, PROTOCOL)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_when_told, tasks.cancel_scope)
        speaker.tell(await _answer(order, speaker))
        tasks.cancel_scope.cancel()
        return 0
    return 1


async def _stop_when_told(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        await anext(signals)
        scope.cancel()


async def _answer(order: BuildOrder, speaker: _Speaker) -> Event:
    if order.protocol > PROTOCOL:
        return Failed(
            kind="project",
            message=f"deferlite {__version__} speaks protocol {PROTOCOL} of builders, and this server speaks "
            f"{order.protocol}: take a newer [build] builder, or remove the line",
        )
    try:
        async with AsyncExitStack() as stack:
            runtimes = make_runtimes(Layout(Path(order.home)))
            manifest = await carry_out(order, runtimes, speaker, stack)
            return Made(manifest=msgspec.Raw(msgspec.json.encode(manifest)), version=__version__)
    except BuildError as error:
        return Failed(kind="project", message=str(error))
    except (DeferliteError, OSError) as error:
        return Failed(kind="world", message=str(error))
    except Exception as error:
        return Failed(kind="internal", message=f"{type(error).__name__}: {error}")
