"""The Python interpreters of this machine, and the one that a project gets."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import uv

from deferlite.builder.layout import Layout
from deferlite.builder.plan import InterpreterRequest
from deferlite.builder.runtimes.versions import OLDEST, Version, can_fit, parse_wanted, text
from deferlite.builder.variables import network_variables
from deferlite.model.errors import BuildError, SandboxError, WorldError
from deferlite.sandbox.box import SYSTEM_PATH
from deferlite.sandbox.process import output

_ASK = (
    "import sys, platform; print(platform.python_implementation(), platform.python_version(), "
    "'.'.join(map(str, sys.version_info[:3])), sys.version_info.releaselevel, sys.prefix == sys.base_prefix)"
)
DOWNLOAD_SECONDS = 300.0


class Interpreter(msgspec.Struct, frozen=True):
    path: Path
    """Real path of the executable."""
    version: Version
    label: str
    """Such as ``CPython 3.11.7``."""


class Interpreters:
    """Looks once, and again only where nothing fits."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: list[Interpreter] | None = None
        self._lock = anyio.Lock()

    async def find(self, request: InterpreterRequest | None) -> Interpreter:
        """The server's own where it fits, else the newest one that does, else one that uv can fetch.

        Raises:
            BuildError: none fits; the message lists those that are there.
        """
        own = own_interpreter()
        if request is None:
            return own
        fits = parse_wanted(request.wanted)
        if fits(own.version):
            return own
        async with self._lock:
            if found := _best(await self.known(), request):
                return found
            trouble = await self._download(request)
            self._known = None
            if found := _best(await self.known(), request):
                return found
            raise BuildError(_none_fits(request, own, await self.known(), trouble))

    async def known(self) -> list[Interpreter]:
        """Those of this machine, and those that uv fetched before."""
        if self._known is None or not all(one.path.exists() for one in self._known):
            paths = await anyio.to_thread.run_sync(lambda: list(_candidates(self._layout.interpreters)))
            asked = [await _ask(path) for path in paths]
            self._known = [one for one in asked if one is not None]
        return self._known

    async def _download(self, request: InterpreterRequest) -> str:
        """Let uv fetch one; returns why it could not, or nothing."""
        if not can_fit(request.wanted):
            return ""
        variables = network_variables(indexes=True) | {
            "PATH": SYSTEM_PATH,
            "HOME": str(self._layout.cache),
            "UV_PYTHON_INSTALL_DIR": str(self._layout.interpreters),
            "UV_CACHE_DIR": str(self._layout.uv_cache("_server")),
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_INSTALL_BIN": "0",
        }
        argv = [str(uv.find_uv_bin()), "python", "install", "--no-config", request.wanted]
        self._layout.interpreters.mkdir(parents=True, exist_ok=True)
        try:
            await output(argv, cwd=self._layout.interpreters, env=variables, timeout=DOWNLOAD_SECONDS)
        except WorldError as error:
            return str(error).strip().splitlines()[0]
        return ""


def own_interpreter() -> Interpreter:
    """The one that runs the server, without its virtual environment."""
    executable = Path(os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable))
    label = f"{platform.python_implementation()} {platform.python_version()}"
    return Interpreter(executable, tuple(sys.version_info[:3]), label)


def _best(known: list[Interpreter], request: InterpreterRequest) -> Interpreter | None:
    fits = parse_wanted(request.wanted)
    fitting = [one for one in known if fits(one.version) and one.version >= OLDEST]
    return max(fitting, key=lambda one: one.version, default=None)


def _candidates(fetched: Path) -> Iterator[Path]:
    """Executables that may be interpreters: pyenv's, uv's, the distribution's, those of PATH."""
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv", "versions")
    managed = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    seen: set[str] = set()
    folders = [folder / "bin" for parent in (pyenv, managed, fetched) for folder in sorted(parent.glob("*"))]
    # The shims of pyenv are scripts that answer for other interpreters.
    folders += [Path(one) for one in f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}".split(":") if "shims" not in one]
    for folder in folders:
        for path in sorted(folder.glob("python3*")):
            real = os.path.realpath(path)
            plain = path.name.removeprefix("python").replace(".", "").isdecimal()
            if plain and real not in seen and os.access(real, os.X_OK) and not (folder.parent / "pyvenv.cfg").exists():
                seen.add(real)
                yield Path(real)


async def _ask(path: Path) -> Interpreter | None:
    try:
        said = await output([str(path), "-I", "-S", "-c", _ASK], cwd=Path("/"), env={"PATH": SYSTEM_PATH}, timeout=20)
        implementation, full, version, level, real = said.split()
    except (WorldError, SandboxError, ValueError):
        return None
    if real != "True" or level != "final":
        return None
    return Interpreter(path, tuple(map(int, version.split("."))), f"{implementation} {full}")


def _none_fits(request: InterpreterRequest, own: Interpreter, known: list[Interpreter], trouble: str) -> str:
    there = sorted({one.version for one in [own, *known] if one.version >= OLDEST})
    listed = ", ".join(map(text, there))
    oldest = text(OLDEST)
    return (
        f"{request.source} asks for Python {request.wanted}, and no such interpreter of {oldest} or later is on this "
        f"machine (there are {listed}): install one, or ask for one of these"
        + (f"; uv could not fetch it: {trouble}" if trouble else "")
    )
