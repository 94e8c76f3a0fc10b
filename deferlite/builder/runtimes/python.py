"""Python projects: an interpreter, a virtual environment made by uv, and the functions found by importing."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import uv

import deferlite
from deferlite.builder.layout import Layout, remove_tree
from deferlite.builder.plan import Command, Files, Plan
from deferlite.builder.runtimes import Installed, Launch
from deferlite.builder.runtimes.dependencies import Dependencies, content_key
from deferlite.builder.runtimes.interpreters import Interpreter, Interpreters
from deferlite.builder.runtimes.manifest import make_manifest, read_found
from deferlite.builder.runtimes.python_plan import plan_python
from deferlite.builder.sdk_wheel import SdkWheel, make_sdk_wheel
from deferlite.builder.variables import network_variables
from deferlite.builder.workspace import Workspace, expect
from deferlite.model.environment import BuildSettings
from deferlite.model.function import Manifest
from deferlite.sandbox.box import interpreter_folders

DISCOVER = Path(deferlite.__file__).parent / "runner" / "discover.py"
EXCLUDES = "deferlite\n"
_STALE = "uv.lock does not fit pyproject.toml: run `uv lock` and commit uv.lock"


class PythonRuntime:
    name = "python"

    def __init__(self, layout: Layout, interpreters: Interpreters | None = None) -> None:
        self._layout = layout
        self._interpreters = interpreters or Interpreters(layout)
        self._dependencies = Dependencies(layout)
        self._uv = Path(uv.find_uv_bin())

    def plan(self, files: Files, settings: BuildSettings) -> Plan:
        return plan_python(files, settings)

    async def install(self, workspace: Workspace, plan: Plan, stack: AsyncExitStack) -> Installed:
        """``stack`` holds the dependencies until the build has been published."""
        interpreter = await self._interpreters.find(plan.interpreter)
        sdk = await anyio.to_thread.run_sync(make_sdk_wheel, self._layout.sdk)
        workspace.journal.say(_chosen(interpreter, plan))
        if plan.shared:
            content = self._content(workspace, plan, interpreter, sdk)
            key = content_key(content)
            await stack.enter_async_context(self._dependencies.holding(key))
            venv = self._layout.dependencies(key) / "venv"
            if await self._dependencies.provide(
                key, lambda folder: self._make(workspace, plan, interpreter, sdk, folder / "venv"), content
            ):
                workspace.journal.say("dependencies are unchanged: those installed before are used")
        else:
            venv = workspace.folder.private_venv
            await self._make(workspace, plan, interpreter, sdk, venv)
        return Installed(venv=venv, read_only=interpreter_folders(interpreter.path))

    def _content(self, workspace: Workspace, plan: Plan, interpreter: Interpreter, sdk: SdkWheel) -> dict[str, object]:
        """All that decides about the installed dependencies."""
        indexes = network_variables(indexes=True) | workspace.env
        return {
            "kind": plan.kind,
            "commands": [command.argv for command in plan.commands],
            "inputs": plan.inputs,
            "interpreter": [str(interpreter.path), interpreter.label],
            "platform": [sys.platform, platform.machine(), *platform.libc_ver()],
            # Values may be secrets, so they go in as a digest.
            "index": content_key({k: v for k, v in indexes.items() if k.startswith(("UV_", "PIP_"))}),
            "sdk": sdk.digest,
            "deferlite": deferlite.__version__,
        }

    async def _make(
        self, workspace: Workspace, plan: Plan, interpreter: Interpreter, sdk: SdkWheel, venv: Path
    ) -> None:
        installer = _Installer(workspace, self._uv, interpreter, venv, self._layout)
        await installer.create()
        for command in plan.commands:
            await installer.run(command)
        await installer.add_sdk(sdk)

    async def discover(self, workspace: Workspace, installed: Installed) -> Manifest:
        folder = workspace.folder
        request, answer = workspace.given / "discover.json", workspace.taken / "functions.json"
        asked = {
            "project": str(workspace.project),
            "functions": workspace.config.build.functions,
            "output": str(answer),
        }
        await anyio.to_thread.run_sync(request.write_bytes, msgspec.json.encode(asked))
        done = await workspace.command(
            [str(installed.venv / "bin" / "python"), str(DISCOVER), str(request)],
            venv=installed.venv,
            read_only=(DISCOVER, installed.venv, *installed.read_only),
        )
        expect(done, "looking for the background functions")
        found = await anyio.to_thread.run_sync(read_found, answer)
        workspace.journal.say(f"found {len(found.functions)}: {', '.join(one.name for one in found.functions)}")
        launch = Launch(
            venv=str(installed.venv.relative_to(self._layout.home)),
            executable="bin/python",
            project=str(workspace.project.relative_to(folder.path)),
            import_paths=found.import_paths,
            django_settings=found.django_settings,
            read_only=tuple(map(str, installed.read_only)),
        )
        return make_manifest(self.name, found, launch)

    async def prune(self, launches: Iterable[Launch]) -> None:
        await self._dependencies.prune(Path(launch.venv).parent.name for launch in launches)


def _chosen(interpreter: Interpreter, plan: Plan) -> str:
    asked = plan.interpreter
    because = f"{asked.source} asks for {asked.wanted}" if asked else "the server's own, as nothing asks for another"
    return f"{interpreter.label}: {because}"


class _Installer:
    """Runs uv, or the project's own command, to fill one virtual environment."""

    def __init__(
        self, workspace: Workspace, program: Path, interpreter: Interpreter, venv: Path, layout: Layout
    ) -> None:
        self._workspace = workspace
        self._uv = program
        self._interpreter = interpreter
        self._venv = venv
        self._layout = layout
        self._cache = layout.uv_cache(workspace.build.environment)

    async def create(self) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        await remove_tree(self._venv)
        self._venv.mkdir(parents=True)
        argv = ("{uv}", "venv", "--no-project", "--quiet", "--python", "{interpreter}", "{venv}")
        await self.run(Command(argv), quiet=True)

    async def run(self, command: Command, *, quiet: bool = False, offline: bool = False) -> None:
        excludes = self._workspace.given / "excludes.txt"
        await anyio.to_thread.run_sync(excludes.write_text, EXCLUDES)
        argv = command.filled(
            {
                "uv": str(self._uv),
                "python": str(self._venv / "bin" / "python"),
                "interpreter": str(self._interpreter.path),
                "venv": str(self._venv),
                "excludes": str(excludes),
            }
        )
        shown = command.argv[0] if command.shell else " ".join(_short(word) for word in command.argv)
        if not quiet:
            self._workspace.journal.say(f"$ {shown}")
        done = await self._workspace.command(
            argv,
            venv=None if quiet else self._venv,
            read_only=(self._uv, self._layout.sdk, *interpreter_folders(self._interpreter.path)),
            writable=(self._cache, self._venv),
            extra=self._variables(),
            indexes=True,
        )
        stale = "--locked" in command.argv and "needs to be updated" in done.output_tail
        expect(done, f"`{shown}`", _STALE if stale else "")

    async def add_sdk(self, sdk: SdkWheel) -> None:
        argv = ("{uv}", "pip", "install", "--python", "{python}", "--no-deps", "--offline", "--no-index", "--quiet")
        options = ("--reinstall-package", "deferlite", "--compile-bytecode", str(sdk.path))
        await self.run(Command(argv + options), quiet=True)

    def _variables(self) -> dict[str, str]:
        return {
            "UV_CACHE_DIR": str(self._cache),
            "UV_PROJECT_ENVIRONMENT": str(self._venv),
            "UV_NO_PROGRESS": "1",
            # A link would share files with a cache that other builds write to.
            "UV_LINK_MODE": "copy",
            "UV_PYTHON_DOWNLOADS": "never",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }


def _short(word: str) -> str:
    return {"{uv}": "uv", "{python}": "python", "{venv}": "venv", "{excludes}": "excludes.txt"}.get(word, word)
