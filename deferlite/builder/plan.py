"""The plan of a build: data made by a pure function from a project's files, and carried out elsewhere."""

from __future__ import annotations

import hashlib
import os
import posixpath
from pathlib import Path
from typing import Protocol

import msgspec

from deferlite.model.errors import BuildError

LARGEST_FILE = 32 * 1024 * 1024
"""Bytes of a file that a plan reads: lock files of large projects are a few."""


class Files(Protocol):
    """A project's files as a plan sees them: names are relative to the project, with ``/``, and may climb by ``..``."""

    def read(self, name: str) -> str | None:
        """The file's text; None where there is no such file."""
        ...

    def is_folder(self, name: str) -> bool: ...


class TreeFiles:
    """The files of a checked out tree. What a symlink or ``..`` names outside of ``root`` is not there."""

    def __init__(self, root: Path, project: Path) -> None:
        self._root = root.resolve()
        self._project = project

    def read(self, name: str) -> str | None:
        path = self._inside(name)
        if path is None or not path.is_file():
            return None
        if path.stat().st_size > LARGEST_FILE:
            raise BuildError(f"{name} is larger than {LARGEST_FILE >> 20} MiB")
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise BuildError(f"{name} is not UTF-8 text: save it as UTF-8") from None

    def is_folder(self, name: str) -> bool:
        path = self._inside(name)
        return path is not None and path.is_dir()

    def _inside(self, name: str) -> Path | None:
        path = Path(os.path.realpath(self._project / name))
        return path if path.is_relative_to(self._root) else None


class Command(msgspec.Struct, frozen=True):
    """One command of an install: ``{uv}``, ``{python}``, ``{venv}`` and ``{excludes}`` stand for paths."""

    argv: tuple[str, ...]
    shell: bool = False
    """``argv`` is one line as the environment file says it, for ``sh -c``."""

    def filled(self, places: dict[str, str]) -> list[str]:
        if self.shell:
            return ["sh", "-c", self.argv[0]]
        return [_fill(word, places) for word in self.argv]


def _fill(word: str, places: dict[str, str]) -> str:
    return places[word[1:-1]] if word.startswith("{") and word.endswith("}") else word


class InterpreterRequest(msgspec.Struct, frozen=True):
    """Which interpreter is wanted, such as ``3.12`` or ``>=3.11,<3.13``, and which file says so."""

    wanted: str
    source: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a project is made ready to run."""

    runtime: str
    kind: str
    """What names the dependencies: ``uv.lock``, ``requirements.txt``, ``pyproject.toml``, ``install`` or ``none``."""
    interpreter: InterpreterRequest | None
    commands: tuple[Command, ...]
    inputs: dict[str, str] = {}
    """Name and SHA-256 of every file that decides about the dependencies."""
    shared: bool = True
    """Other builds with the same inputs may use the same installed dependencies."""
    notes: tuple[str, ...] = ()
    """What the build's log tells about the choice."""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def join(folder: str, name: str) -> str:
    """``name`` as seen from ``folder``, both relative to the project."""
    return posixpath.normpath(posixpath.join(folder, name))
