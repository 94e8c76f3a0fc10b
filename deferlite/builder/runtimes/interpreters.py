"""The Python interpreters of this machine, and the one that a project gets."""

from __future__ import annotations

import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import uv

from deferlite.builder.layout import Layout
from deferlite.builder.plan import InterpreterRequest
from deferlite.builder.runtimes.versions import OLDEST, Version, can_fit, flavour, parse_wanted, text
from deferlite.builder.variables import network_variables
from deferlite.model.errors import BuildError, SandboxError, WorldError
from deferlite.sandbox.box import SYSTEM_PATH
from deferlite.sandbox.process import output

_ASK = (
    "import sys, platform, sysconfig; print(platform.python_implementation(), platform.python_version(), "
    "'.'.join(map(str, sys.version_info[:3])), sys.version_info.releaselevel, sys.prefix == sys.base_prefix, "
    "bool(sysconfig.get_config_var('Py_GIL_DISABLED')))"
)
_EXECUTABLE = re.compile(r"(?:python|pypy)3(?:\.\d+)?t?\Z", re.ASCII)
DOWNLOAD_SECONDS = 300.0


class Interpreter(msgspec.Struct, frozen=True):
    path: Path
    """Real path of the executable."""
    version: Version
    label: str
    """Such as ``CPython 3.11.7``."""
    flavour: tuple[str, bool] = ("cpython", False)
    """As of ``versions.flavour``."""


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
        if request.wanted.startswith("/"):
            return await _named(request)
        if _best([own], request.wanted):
            return own
        async with self._lock:
            known = await self.known()
            for wanted in filter(None, (request.wanted, request.otherwise)):
                if found := _best([own], wanted) or _best(known, wanted):
                    return found
            return await self._fetched(request, own)

    async def _fetched(self, request: InterpreterRequest, own: Interpreter) -> Interpreter:
        trouble = ""
        for wanted in filter(None, (request.wanted, request.otherwise)):
            trouble = trouble or await self._download(wanted)
            self._known = None
            if found := _best(await self.known(), wanted):
                return found
        raise BuildError(_none_fits(request, own, await self.known(), trouble))

    async def known(self) -> list[Interpreter]:
        """Those of this machine, and those that uv fetched before."""
        if self._known is None or not all(one.path.exists() for one in self._known):
            paths = await anyio.to_thread.run_sync(lambda: list(_candidates(self._layout.interpreters)))
            asked = [await _ask(path) for path in paths]
            self._known = [one for one in asked if one is not None]
        return self._known

    async def _download(self, wanted: str) -> str:
        """Let uv fetch one; returns why it could not, or nothing."""
        if not can_fit(wanted):
            return ""
        variables = network_variables(indexes=True) | {
            "PATH": SYSTEM_PATH,
            "HOME": str(self._layout.cache),
            "UV_PYTHON_INSTALL_DIR": str(self._layout.interpreters),
            "UV_CACHE_DIR": str(self._layout.uv_cache("_server")),
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_INSTALL_BIN": "0",
        }
        argv = [str(uv.find_uv_bin()), "python", "install", "--no-config", wanted]
        self._layout.interpreters.mkdir(parents=True, exist_ok=True)
        try:
            await output(argv, cwd=self._layout.interpreters, env=variables, timeout=DOWNLOAD_SECONDS)
        except WorldError as error:
            return str(error).strip().splitlines()[0]
        return ""


def own_interpreter() -> Interpreter:
    """The one that runs the server, without its virtual environment."""
    executable = Path(os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable))
    implementation = platform.python_implementation()
    is_of = implementation.lower(), bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return Interpreter(executable, tuple(sys.version_info[:3]), f"{implementation} {platform.python_version()}", is_of)


def _best(known: list[Interpreter], wanted: str) -> Interpreter | None:
    """The newest that fits. Another implementation than CPython is only taken where it is asked for by its name."""
    fits, asked = parse_wanted(wanted), flavour(wanted)
    fitting = [one for one in known if one.flavour == asked and fits(one.version) and one.version >= OLDEST]
    return max(fitting, key=lambda one: one.version, default=None)


async def _named(request: InterpreterRequest) -> Interpreter:
    """The one at an absolute path, which has to be a whole installation."""
    path = Path(os.path.realpath(request.wanted))
    found = await _ask(path) if await anyio.Path(path).is_file() else None
    if found is None:
        raise BuildError(
            f"{request.source}: {request.wanted} is no Python interpreter that can be used: "
            "name the executable of an installation, not of a virtual environment"
        )
    if found.version < OLDEST:
        raise BuildError(f"{request.source}: {request.wanted} is {found.label}; {text(OLDEST)} is the oldest supported")
    return found


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
        for path in sorted((*folder.glob("python3*"), *folder.glob("pypy3*"))):
            real = os.path.realpath(path)
            usable = _EXECUTABLE.match(path.name) and os.access(real, os.X_OK)
            if usable and real not in seen and not (folder.parent / "pyvenv.cfg").exists():
                seen.add(real)
                yield Path(real)


async def _ask(path: Path) -> Interpreter | None:
    try:
        said = await output([str(path), "-I", "-S", "-c", _ASK], cwd=Path("/"), env={"PATH": SYSTEM_PATH}, timeout=20)
        implementation, full, version, level, real, free_threaded = said.split()
    except (WorldError, SandboxError, ValueError):
        return None
    if real != "True" or level != "final":
        return None
    numbers = tuple(map(int, version.split(".")))
    return Interpreter(path, numbers, f"{implementation} {full}", (implementation.lower(), free_threaded == "True"))


def _none_fits(request: InterpreterRequest, own: Interpreter, known: list[Interpreter], trouble: str) -> str:
    there = {one.path: one for one in [own, *known] if one.version >= OLDEST}
    newest_first = sorted(there.values(), key=lambda one: one.version, reverse=True)
    listed = ", ".join(f"{one.label} at {one.path}" for one in newest_first)
    return (
        f"{request.source} asks for Python {request.wanted}, and no such interpreter of {text(OLDEST)} or later is on "
        f"this machine (there are {listed}): install one, or ask for one of these"
        + (f"; uv could not fetch it: {trouble}" if trouble else "")
    )
