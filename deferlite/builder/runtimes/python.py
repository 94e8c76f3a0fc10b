"""Python projects: an interpreter, a virtual environment made by uv, and the functions found by importing."""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

import deferlite
from deferlite.builder.layout import Layout
from deferlite.builder.plan import Files, Plan
from deferlite.builder.runtimes import Installed, Launch
from deferlite.builder.runtimes.installer import Installer
from deferlite.builder.runtimes.interpreters import Interpreter, Interpreters
from deferlite.builder.runtimes.manifest import make_manifest, read_found
from deferlite.builder.runtimes.own_project import provide_own
from deferlite.builder.runtimes.python_plan import plan_python
from deferlite.builder.runtimes.versions import parse_wanted
from deferlite.builder.sdk_wheel import SdkWheel, make_sdk_wheel
from deferlite.builder.shelf import Shelf, content_key
from deferlite.builder.variables import network_variables
from deferlite.builder.workspace import Workspace, expect
from deferlite.model.environment import BuildSettings
from deferlite.model.function import Manifest
from deferlite.sandbox.box import interpreter_folders

RUNNER = Path(deferlite.__file__).parent / "runner"
_DECIDING = ("UV_", "PIP_", "POETRY_", "PDM_", "PIPENV_")
"""Variables with such names say where packages come from."""

UNUSED_SECONDS = 86400.0
"""How long a set of dependencies that no build uses is kept: a branch switched back finds it again."""


class _ForeignCode(Exception):
    """Other code than uv has had a hand in dependencies that all environments would use."""


class PythonRuntime:
    name = "python"

    def __init__(self, layout: Layout, interpreters: Interpreters | None = None) -> None:
        self._layout = layout
        self._interpreters = interpreters or Interpreters(layout)
        self._dependencies = Shelf(layout.all_dependencies, layout.locks, UNUSED_SECONDS)

    def plan(self, files: Files, settings: BuildSettings) -> Plan:
        return plan_python(files, settings)

    async def install(self, workspace: Workspace, plan: Plan, stack: AsyncExitStack) -> Installed:
        """``stack`` holds the dependencies until the build has been published."""
        interpreter = await self._interpreters.find(plan.interpreter)
        sdk = await anyio.to_thread.run_sync(make_sdk_wheel, self._layout.sdk)
        workspace.journal.say(_chosen(interpreter, plan))
        venv = await self._provide(workspace, plan, interpreter, sdk, stack)
        paths = await provide_own(workspace, Installer(workspace, interpreter, venv, sdk), plan)
        return Installed(
            venv=venv,
            read_only=interpreter_folders(interpreter.path),
            import_roots=tuple(workspace.project / root for root in plan.import_roots),
            paths=paths,
        )

    async def _provide(
        self, workspace: Workspace, plan: Plan, interpreter: Interpreter, sdk: SdkWheel, stack: AsyncExitStack
    ) -> Path:
        if not plan.shared:
            venv = workspace.folder.private_venv
            await Installer(workspace, interpreter, venv, sdk).make(plan)
            return venv
        content = self._content(workspace, plan, interpreter, sdk)
        # Whoever runs code while a set is made decides what is in it: no other environment takes that over.
        own = {"environment": workspace.build.environment, "env": content_key({"env": workspace.env})}
        for for_all, named in ((True, content), (False, content | own)):
            key = content_key(named)
            await stack.enter_async_context(self._dependencies.holding(key))
            installer = Installer(workspace, interpreter, self._layout.dependencies(key) / "venv", sdk)
            make = functools.partial(_make, installer, plan, for_all)
            with suppress(_ForeignCode):
                if await self._dependencies.provide(key, make, named):
                    workspace.journal.say("dependencies are unchanged: those installed before are used")
                break
        return installer.venv

    def _content(self, workspace: Workspace, plan: Plan, interpreter: Interpreter, sdk: SdkWheel) -> dict[str, object]:
        """All that decides about the installed dependencies."""
        indexes = network_variables(indexes=True) | workspace.env
        return {
            "kind": plan.kind,
            "commands": [command.argv for command in plan.commands],
            "inputs": plan.inputs,
            "overrides": plan.overrides,
            # It may hold secrets, as addresses of indexes do.
            "given": content_key({"given": plan.given, "indexes": plan.indexes}),
            "interpreter": [str(interpreter.path), interpreter.label],
            "platform": [sys.platform, platform.machine(), *platform.libc_ver()],
            # Values may be secrets, so they go in as a digest.
            "index": content_key({k: v for k, v in indexes.items() if k.startswith(_DECIDING)}),
            "sdk": sdk.digest,
            "deferlite": deferlite.__version__,
        }

    async def discover(self, workspace: Workspace, installed: Installed) -> Manifest:
        folder = workspace.folder
        request, answer = workspace.given / "discover.json", workspace.taken / "functions.json"
        asked = {
            "project": str(workspace.project),
            "functions": workspace.config.build.functions,
            "output": str(answer),
            "roots": [str(root) for root in installed.import_roots],
            "paths": [str(path) for path in installed.paths],
        }
        await anyio.to_thread.run_sync(request.write_bytes, msgspec.json.encode(asked))
        done = await workspace.command(
            [str(installed.venv / "bin" / "python"), str(RUNNER / "run.py"), "--discover", str(request)],
            venv=installed.venv,
            read_only=(RUNNER, installed.venv, *installed.read_only, *installed.paths),
        )
        expect(done, "looking for the background functions")
        found = await anyio.to_thread.run_sync(read_found, answer)
        if found.django_settings is not None:
            workspace.journal.say(f"found Django: it is set up with {found.django_settings}")
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


async def _make(installer: Installer, plan: Plan, for_all: bool, _: Path) -> None:
    if for_all and not (installer.is_alone and all(one.runs_uv_alone for one in plan.commands)):
        raise _ForeignCode
    await installer.make(plan)
    if for_all and not installer.is_alone:
        raise _ForeignCode


def _chosen(interpreter: Interpreter, plan: Plan) -> str:
    asked = plan.interpreter
    if asked is None:
        return f"{interpreter.label}: the server's own, as nothing asks for another"
    because = f"{interpreter.label}: {asked.source} asks for {asked.wanted}"
    if asked.otherwise is None or parse_wanted(asked.wanted)(interpreter.version):
        return because
    return f"{because}, which is not on this machine: another patch version of the same Python will do"
