"""Fills one virtual environment, by uv or by the project's own command."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import uv

from deferlite.builder.layout import remove_tree
from deferlite.builder.plan import Command, Plan
from deferlite.builder.runtimes.interpreters import Interpreter
from deferlite.builder.runtimes.kinds.locks import TOOL_VARIABLES
from deferlite.builder.runtimes.overriding import CHECK, FILE, requirements_text
from deferlite.builder.sdk_wheel import SdkWheel
from deferlite.builder.workspace import Workspace, expect
from deferlite.sandbox.box import SYSTEM_PATH, interpreter_folders

EXCLUDES = {"excludes.txt": "deferlite\n"}
_SHOWN = ("{given}/", "{taken}/", "{")


class Installer:
    def __init__(self, workspace: Workspace, interpreter: Interpreter, venv: Path, sdk: SdkWheel) -> None:
        self._workspace = workspace
        self._uv = Path(uv.find_uv_bin())
        self._interpreter = interpreter
        self._venv = venv
        self._sdk = sdk
        self._cache = workspace.layout.uv_cache(workspace.build.environment)

    async def make(self, plan: Plan) -> None:
        """The whole environment as the plan says it.

        Raises:
            BuildError, WorldError: a command failed; the message has the end of its output.
        """
        await self._give(EXCLUDES | plan.given)
        await self._create()
        for command in plan.commands:
            if "{given}/" + FILE in command.argv:
                await self._give({FILE: await self._overrides(plan)})
            await self.run(command, extra=await self._uv_on_path() if command.shell else None)
        await self._add_sdk()
        if plan.overrides:
            await self.run(CHECK)

    async def _overrides(self, plan: Plan) -> str:
        workspace = self._workspace
        return await anyio.to_thread.run_sync(requirements_text, plan, workspace.project, workspace.taken)

    async def _uv_on_path(self) -> dict[str, str]:
        """For the project's own command: the environment has no pip, so nothing else could install there."""
        folder = self._workspace.given / "bin"
        await anyio.Path(folder).mkdir(exist_ok=True)
        await anyio.Path(folder / "uv").symlink_to(self._uv)
        return {"PATH": f"{self._venv}/bin:{folder}:{self._workspace.env.get('PATH', SYSTEM_PATH)}"}

    async def _give(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            await anyio.to_thread.run_sync((self._workspace.given / name).write_text, text)

    async def _create(self) -> None:
        await anyio.Path(self._cache).mkdir(parents=True, exist_ok=True)
        await remove_tree(self._venv)
        await anyio.Path(self._venv).mkdir(parents=True)
        argv = ("{uv}", "venv", "--no-project", "--quiet", "--python", "{interpreter}", "{venv}")
        await self.run(Command(argv), quiet=True)

    async def run(
        self,
        command: Command,
        *,
        quiet: bool = False,
        places: dict[str, str] | None = None,
        writable: tuple[Path, ...] = (),
        extra: dict[str, str] | None = None,
    ) -> bool:
        """Run one command in the box; False: it failed, and may.

        ``places`` are further ones that its words may begin with, ``writable`` further folders it may write to.
        """
        shown = command.argv[0] if command.shell else " ".join(_short(word) for word in command.argv)
        if not quiet:
            self._workspace.journal.say(f"$ {shown}")
        await anyio.Path(self._cache).mkdir(parents=True, exist_ok=True)
        done = await self._workspace.command(
            command.filled(self._places() | (places or {})),
            venv=None if quiet else self._venv,
            read_only=(self._uv, self._workspace.layout.sdk, *interpreter_folders(self._interpreter.path)),
            writable=(self._cache, self._venv, *writable),
            extra=self._variables() | (extra or {}),
            indexes=True,
        )
        if done.returncode != 0 and command.may_fail:
            self._workspace.journal.say(command.may_fail)
            return False
        expect(done, f"`{shown}`", command.cure(done.output_tail))
        return True

    async def _add_sdk(self) -> None:
        argv = ("{uv}", "pip", "install", "--python", "{python}", "--no-deps", "--offline", "--no-index", "--quiet")
        options = ("--reinstall-package", "deferlite", "--compile-bytecode", str(self._sdk.path))
        await self.run(Command(argv + options), quiet=True)

    def _places(self) -> dict[str, str]:
        return {
            "uv": str(self._uv),
            "python": str(self._venv / "bin" / "python"),
            "interpreter": str(self._interpreter.path),
            "venv": str(self._venv),
            "project": str(self._workspace.project),
            "given": str(self._workspace.given),
            "taken": str(self._workspace.taken),
        }

    def _variables(self) -> dict[str, str]:
        return TOOL_VARIABLES | {
            "UV_CACHE_DIR": str(self._cache),
            "UV_TOOL_DIR": str(self._cache / "tools"),
            "UV_PROJECT_ENVIRONMENT": str(self._venv),
            "UV_NO_PROGRESS": "1",
            # A link would share files with a cache that other builds write to.
            "UV_LINK_MODE": "copy",
            "UV_PYTHON_DOWNLOADS": "never",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }


def _short(word: str) -> str:
    for prefix in _SHOWN:
        word = word.removeprefix(prefix)
    return word.removesuffix("}")
