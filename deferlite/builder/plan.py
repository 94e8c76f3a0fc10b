"""The plan of a build: data made by a pure function from a project's files, and carried out elsewhere."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
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

    def names(self, folder: str) -> tuple[str, ...]:
        """What lies in a folder, sorted; nothing where there is no such folder."""
        ...


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

    def names(self, folder: str) -> tuple[str, ...]:
        path = self._inside(folder)
        return tuple(sorted(one.name for one in path.iterdir())) if path is not None and path.is_dir() else ()

    def _inside(self, name: str) -> Path | None:
        try:
            path = Path(os.path.realpath(self._project / name))
            path.lstat()
        except (OSError, ValueError):  # Nothing there has such a name, or could have.
            return None
        return path if path.is_relative_to(self._root) else None


class Command(msgspec.Struct, frozen=True):
    """One command of an install. A word may begin with a place in braces, as in ``{given}/requirements.txt``:

    ``uv``, ``python`` (of the virtual environment), ``interpreter`` (that it is made from), ``venv``, ``project``,
    ``given`` (files that the plan writes) and ``taken`` (files that commands write for those behind them).
    """

    argv: tuple[str, ...]
    shell: bool = False
    """``argv`` is one line as the environment file says it, for ``sh -c``."""
    output: str = ""
    """A file of ``taken`` that gets what the command prints."""
    faults: tuple[tuple[str, str], ...] = ()
    """Words that the command says when it fails, and what is then wrong and the cure."""
    may_fail: str = ""
    """What the log says then; without it the build fails."""

    @property
    def runs_uv_alone(self) -> bool:
        """No shell, and no tool of another maker."""
        return self.argv[0] == "{uv}" and self.argv[1] != "tool"

    def filled(self, places: dict[str, str]) -> list[str]:
        if self.shell:
            return ["sh", "-c", self.argv[0]]
        words = [_fill(word, places) for word in self.argv]
        if self.output:
            return ["sh", "-c", 'exec "$@" > "$0"', f"{places['taken']}/{self.output}", *words]
        return words

    def cure(self, said: str) -> str:
        """What is wrong as far as ``said`` tells, or nothing."""
        flat = " ".join(said.split())
        return next((cure for words, cure in self.faults if words in flat), "")


_PLACE = re.compile(r"\{([a-z]+)\}")


def _fill(word: str, places: dict[str, str]) -> str:
    place = _PLACE.match(word)
    return places[place[1]] + word[place.end() :] if place else word


class InterpreterRequest(msgspec.Struct, frozen=True):
    """Which interpreter is wanted, such as ``3.12``, ``>=3.11,<3.13`` or a path, and which file says so."""

    wanted: str
    source: str
    otherwise: str | None = None
    """What is taken, and told, where ``wanted`` is not there."""


class OwnProject(msgspec.Struct, frozen=True, kw_only=True):
    """The project as a distribution: what ``importlib.metadata`` tells about it."""

    name: str
    version: str | None
    """None: only the project's build back-end knows it."""
    requires: tuple[str, ...] = ()
    entry_points: dict[str, dict[str, str]] = {}
    """Group, name, and the object's ``module:attribute``."""
    compiled: bool = False
    """It has parts that do not work as they lie in the tree, such as C extensions."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a project is made ready to run."""

    runtime: str
    kind: str
    """What names the dependencies: a name of ``kinds.KINDS`` such as ``uv.lock``, ``install`` or ``none``."""
    interpreter: InterpreterRequest | None
    commands: tuple[Command, ...]
    inputs: dict[str, str] = {}
    """Name and SHA-256 of every file, or part of one, that decides about the dependencies."""
    given: dict[str, str] = {}
    """Files that the commands find in ``{given}``, and their text, in which ``{project}`` stands for that folder."""
    overrides: tuple[str, ...] = ()
    """Requirements that are installed over what the project names."""
    indexes: tuple[str, ...] = ()
    """Lines of requirements files that say where packages come from; the overrides come from there too."""
    shared: bool = True
    """Other builds with the same inputs may use the same installed dependencies."""
    import_roots: tuple[str, ...] = ()
    """Folders of the project that modules are imported from, besides those that are always looked at."""
    own: OwnProject | None = None
    """None: the project is no distribution."""
    notes: tuple[str, ...] = ()
    """What the build's log tells about the choice."""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def join(folder: str, name: str) -> str:
    """``name`` as seen from ``folder``, both relative to the project."""
    return posixpath.normpath(posixpath.join(folder, name))
