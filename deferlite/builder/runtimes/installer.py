"""Fills one virtual environment, by uv or by the project's own command."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import msgspec

from deferlite.builder.layout import remove_tree
from deferlite.builder.plan import Command, Plan
from deferlite.builder.protocol import Listener
from deferlite.builder.runtimes.interpreters import Interpreter
from deferlite.builder.runtimes.kinds.locks import TOOL_VARIABLES
from deferlite.builder.runtimes.overriding import CHECK, FILE, requirements_text
from deferlite.builder.sdk_wheel import SdkWheel
from deferlite.builder.workspace import Workspace, expect, find_uv
from deferlite.sandbox.box import interpreter_folders

EXCLUDES = {"excludes.txt": "deferlite\n"}
_SHOWN = ("{given}/", "{taken}/", "{")


_TRACE = "DEBUG"


class _Heard:
    """Hears from uv whether it lets a package, or the project, run code to be built; it says so before it does."""

    def __init__(self, journal: Listener) -> None:
        self._journal = journal
        self.build = False

    def line(self, stream: str, text: str) -> None:
        self.build = self.build or text.startswith((_TRACE, "   Building "))
        if not text.startswith(_TRACE):
            self._journal.line(stream, text)


class Installer:
    def __init__(self, workspace: Workspace, interpreter: Interpreter, venv: Path, sdk: SdkWheel) -> None:
        self._workspace = workspace
        self.interpreter = interpreter
        self.venv = venv
        self._sdk = sdk
        self._cache = workspace.layout.uv_cache(workspace.build.environment)
        self._foreign = workspace.layout.foreign(workspace.build.environment)

    @property
    def is_alone(self) -> bool:
        """Whether nothing but uv has written to the environment's package cache so far. Blocks.

        Other code may have changed any package in it, for whatever is installed from there afterwards.
        """
        return not self._foreign.exists() or not self._cache.exists()

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
            await self.run(command)
        await self._add_sdk()
        if plan.overrides:
            await self.run(CHECK)

    async def _overrides(self, plan: Plan) -> str:
        return await anyio.to_thread.run_sync(requirements_text, plan, self._workspace.taken)

    async def _give(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            placed = text.replace("{project}", str(self._workspace.project))
            await anyio.to_thread.run_sync((self._workspace.given / name).write_text, placed)

    async def _create(self) -> None:
        await anyio.Path(self._cache).mkdir(parents=True, exist_ok=True)
        await remove_tree(self.venv)
        await anyio.Path(self.venv).mkdir(parents=True)
        argv = ("{uv}", "venv", "--no-project", "--quiet", "--python", "{interpreter}", "{venv}")
        await self.run(Command(argv), quiet=True)

    async def run(
        self,
        command: Command,
        *,
        quiet: bool = False,
        places: dict[str, str] | None = None,
        writable: tuple[Path, ...] | None = None,
        extra: dict[str, str] | None = None,
    ) -> bool:
        """Run one command in the box; False: it failed, and may.

        ``places`` are further ones that its words may begin with, ``writable`` the folders it may write to instead of
        the environment, which others may use already.
        """
        shown = command.argv[0] if command.shell else " ".join(_short(word) for word in command.argv)
        if not quiet:
            self._workspace.journal.say(f"$ {shown}")
        heard = _Heard(self._workspace.journal)
        was_alone = await anyio.to_thread.run_sync(self._open_cache)
        done = await self._workspace.command(
            command.filled(self._places() | (places or {})),
            venv=None if quiet else self.venv,
            read_only=(self._workspace.layout.sdk, self.venv, *interpreter_folders(self.interpreter.path)),
            writable=(self._cache, *((self.venv,) if writable is None else writable)),
            extra=self._variables() | (extra or {}),
            indexes=True,
            on_line=heard.line,
        )
        if was_alone and not heard.build and command.runs_uv_alone:
            await anyio.Path(self._foreign).unlink()
        if done.returncode != 0 and command.may_fail:
            self._workspace.journal.say(command.may_fail)
            return False
        said = "\n".join(line for line in done.output_tail.splitlines() if not line.startswith(_TRACE))
        expect(msgspec.structs.replace(done, output_tail=said), f"`{shown}`", command.cure(said))
        return True

    def _open_cache(self) -> bool:
        """Until it is known better, that is when a command has ended, other code may have been at work in it."""
        was_alone = self.is_alone
        self._cache.mkdir(parents=True, exist_ok=True)
        self._foreign.parent.mkdir(exist_ok=True)
        self._foreign.touch()
        return was_alone

    async def _add_sdk(self) -> None:
        argv = ("{uv}", "pip", "install", "--python", "{python}", "--no-deps", "--offline", "--no-index", "--quiet")
        options = ("--reinstall-package", "deferlite", "--compile-bytecode", str(self._sdk.path))
        await self.run(Command(argv + options), quiet=True)

    def _places(self) -> dict[str, str]:
        return {
            "uv": str(find_uv()),
            "python": str(self.venv / "bin" / "python"),
            "interpreter": str(self.interpreter.path),
            "venv": str(self.venv),
            "project": str(self._workspace.project),
            "given": str(self._workspace.given),
            "taken": str(self._workspace.taken),
        }

    def _variables(self) -> dict[str, str]:
        return TOOL_VARIABLES | {
            "UV_CACHE_DIR": str(self._cache),
            "UV_TOOL_DIR": str(self._cache / "tools"),
            "UV_PROJECT_ENVIRONMENT": str(self.venv),
            "UV_NO_PROGRESS": "1",
            "RUST_LOG": "uv_build_frontend=debug",
            # A link would share files with a cache that other builds write to.
            "UV_LINK_MODE": "copy",
            "UV_PYTHON_DOWNLOADS": "never",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }


def _short(word: str) -> str:
    for prefix in _SHOWN:
        word = word.removeprefix(prefix)
    return word.removesuffix("}")
