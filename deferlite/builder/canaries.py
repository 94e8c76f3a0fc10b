"""Other deferlites that ``[build] builder`` asks for: fetched by uv, or made from a path, once for each content."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import uv

from deferlite import __version__
from deferlite.builder import variables
from deferlite.builder.builders import Builder, ProgramBuilder
from deferlite.builder.layout import Layout
from deferlite.builder.protocol import Listener
from deferlite.builder.runtimes.interpreters import own_interpreter
from deferlite.builder.shelf import Shelf, content_key
from deferlite.builder.workspace import expect
from deferlite.model.errors import BuildError
from deferlite.sandbox.box import Box, interpreter_folders
from deferlite.sandbox.levels import SandboxStatus
from deferlite.sandbox.process import run

UNUSED_SECONDS = 7 * 86400.0
"""How long a builder that no build uses is kept."""

_VERSION = re.compile(r"v?\d+(\.\d+)*[0-9A-Za-z.!+_-]*\Z", re.ASCII)
_ALONE = ("pyproject.toml", "setup.py", "setup.cfg", "MANIFEST.in", "README.md", "LICENSE")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")
CACHE = "_builders"
"""Their package cache, in the place of an environment's."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What ``[build] builder`` names. ``path`` None: a version of the package index."""

    name: str
    path: Path | None
    digest: str
    """Of the content of ``path``."""

    @property
    def key(self) -> str:
        index = content_key(dict(variables.network_variables(indexes=True)))
        what = self.digest or f"{self.name} of {index}"
        return content_key({"builder": what, "python": str(own_interpreter().path), "version": sys.version})


class Canaries:
    """Builders of other versions, each in a virtual environment of its own below ``cache/builders``."""

    def __init__(self, layout: Layout, status: SandboxStatus) -> None:
        self._layout = layout
        self._status = status
        self._shelf = Shelf(layout.builders, layout.locks, UNUSED_SECONDS)

    async def find(self, name: str, listener: Listener, stack: AsyncExitStack) -> Builder:
        """The builder of that version or path, installed if it is not yet; ``stack`` keeps it from being removed.

        Raises:
            BuildError: it cannot be had; the message names ``[build] builder``.
            WorldError: the network or the disk failed.
        """
        wanted = await anyio.to_thread.run_sync(read_wanted, name)
        key = await anyio.to_thread.run_sync(lambda: wanted.key)
        folder = self._layout.builders / key
        await stack.enter_async_context(self._shelf.holding(key))
        made = await self._shelf.provide(key, lambda at: self._install(wanted, at, listener), {"builder": name})
        version = await anyio.to_thread.run_sync(_installed_version, folder / "venv")
        if version is None:
            raise BuildError(f"[build] builder = {name!r} is no deferlite: name a version of it, or its source folder")
        if not made:
            listener.say(f"installed the builder deferlite {version}")
        argv = [str(folder / "venv" / "bin" / "python"), "-I", "-m", "deferlite.builder"]
        return ProgramBuilder(argv, version, f"canary {key}", name)

    async def prune(self) -> list[str]:
        """Remove those that have not been used for a week, and what is left of those that could not be made."""
        return await self._shelf.prune()

    async def _install(self, wanted: Wanted, folder: Path, listener: Listener) -> None:
        listener.say(f"installing the builder: deferlite {wanted.name}")
        what = await anyio.to_thread.run_sync(_requirement, wanted, folder)
        python = own_interpreter().path
        where = ("--python", str(folder / "venv" / "bin" / "python"))
        for argv in (
            ("venv", "--no-project", "--quiet", "--python", str(python), str(folder / "venv")),
            ("pip", "install", "--no-config", "--compile-bytecode", *where, what),
        ):
            await self._uv(argv, wanted, folder, listener)

    async def _uv(self, arguments: tuple[str, ...], wanted: Wanted, folder: Path, listener: Listener) -> None:
        program, python = Path(uv.find_uv_bin()), own_interpreter().path
        cache, home = self._layout.uv_cache(CACHE), folder / "home"
        for made in (cache, home):
            made.mkdir(parents=True, exist_ok=True)
        os.utime(cache)
        env = variables.base_variables(None) | variables.network_variables(indexes=True)
        env |= {"HOME": str(home), "UV_CACHE_DIR": str(cache), "UV_LINK_MODE": "copy", "UV_NO_PROGRESS": "1"}
        env |= {"UV_PYTHON_DOWNLOADS": "never", "PYTHONDONTWRITEBYTECODE": "1"}
        shown = (program, *interpreter_folders(python), *variables.certificate_folders(), *variables.link_folders())
        box = Box(
            read_only=(*shown, *((wanted.path,) if wanted.path else ())),
            writable=(cache, folder),
            hidden=(self._layout.home,),
            cwd=folder,
            env=env,
        )
        argv = [str(program), *arguments]
        done = await run(argv, cwd=folder, env=env, status=self._status, box=box, timeout=None, on_line=listener.line)
        expect(done, f"[build] builder = {wanted.name!r}: installing it")


def read_wanted(name: str) -> Wanted:
    """What ``[build] builder`` names. Blocks.

    Raises:
        BuildError: it is neither a version nor the path of a wheel or of deferlite's source folder.
    """
    if "/" not in name and not name.endswith(".whl"):
        if not _VERSION.match(name):
            raise BuildError(
                f"[build] builder = {name!r} is neither a version nor a path: "
                f'write such as "{__version__}" or "/srv/deferlite"'
            )
        return Wanted(name=name, path=None, digest="")
    path = Path(name).expanduser()
    if not path.is_absolute():
        raise BuildError(f"[build] builder = {name!r} is not a whole path: begin it with /")
    is_wheel = path.is_file() and path.suffix == ".whl"
    if not is_wheel and not (path / "deferlite" / "__init__.py").is_file():
        raise BuildError(
            f"[build] builder = {name!r} is neither a wheel nor a source folder of deferlite (with deferlite/ and "
            "pyproject.toml in it)"
        )
    return Wanted(name=name, path=path, digest=_digest(path, is_wheel))


def _sources(folder: Path) -> Iterator[Path]:
    """What of a source folder makes the package: a developer's has an environment, tests and a history besides."""
    yield from (folder / name for name in _ALONE if (folder / name).is_file())
    for path in sorted((folder / "deferlite").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _digest(path: Path, is_wheel: bool) -> str:
    digest = hashlib.sha256()
    for file in [path] if is_wheel else _sources(path):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(path)}\0{len(content)}\0".encode(errors="surrogateescape") + content)
    return digest.hexdigest()


def _requirement(wanted: Wanted, folder: Path) -> str:
    """As uv takes it. Sources are copied: building writes among them."""
    if wanted.path is None:
        return f"deferlite[server]=={wanted.name}"
    if wanted.path.is_file():
        return f"deferlite[server] @ {wanted.path.as_uri()}"
    copy = folder / "source"
    copy.mkdir(parents=True)
    for name in _ALONE:
        if (wanted.path / name).is_file():
            shutil.copyfile(wanted.path / name, copy / name)
    shutil.copytree(wanted.path / "deferlite", copy / "deferlite", ignore=_LEFT_OUT)
    return f"deferlite[server] @ {copy.as_uri()}"


def _installed_version(venv: Path) -> str | None:
    for info in venv.glob("lib/python*/site-packages/deferlite-*.dist-info"):
        return info.name.removeprefix("deferlite-").removesuffix(".dist-info")
    return None
