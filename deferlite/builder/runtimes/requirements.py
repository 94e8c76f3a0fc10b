"""requirements.txt and the files it names, read as far as a plan needs: contents and local paths."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

import msgspec

from deferlite.builder.plan import Files, digest, join
from deferlite.model.errors import BuildError

_OPTION = re.compile(r"(-r|--requirements?|-c|--constraints?|-e|--editable)(?:\s*=\s*|\s+|(?<=-[rce]))(.+)\Z", re.ASCII)
_LOCAL = re.compile(r"(?:\.{1,2}(?:/|\[|\Z)|/|~/|file:)|[^@]+@\s*(?:file:|\.{0,2}/)", re.ASCII)


class Requirements(msgspec.Struct, frozen=True):
    inputs: dict[str, str]
    """Name and digest of each file, the first one included."""
    local: bool
    """Something is installed from the project's own tree."""
    requirements: tuple[str, ...] = ()
    """Those that are asked for by name or address, each without its hashes; constraints are not among them."""
    indexes: tuple[str, ...] = ()
    """Options that say where packages come from, their folders relative to ``{project}``."""


_INDEX = re.compile(
    r"(-i|--index-url|--extra-index-url|-f|--find-links|--no-index)(?:(?:\s*=\s*|\s+)(.+))?\Z", re.ASCII
)


def read_requirements(files: Files, name: str) -> Requirements:
    """Read ``name`` and all it includes.

    Raises:
        BuildError: an included file is not there.
    """
    reader = _Reader(files)
    waiting = [_Include(name, "", False)]
    while waiting:
        include = waiting.pop()
        if include.name not in reader.inputs:
            waiting += reader.read(include)
    return Requirements(reader.inputs, reader.local, tuple(reader.requirements), tuple(dict.fromkeys(reader.indexes)))


class _Include(msgspec.Struct, frozen=True):
    name: str
    origin: str
    constraint: bool


class _Reader:
    def __init__(self, files: Files) -> None:
        self._files = files
        self.inputs: dict[str, str] = {}
        self.local = False
        self.requirements: list[str] = []
        self.indexes: list[str] = []

    def read(self, include: _Include) -> list[_Include]:
        """Take one file in; returns those that it includes."""
        current = include.name
        content = self._files.read(current)
        if content is None:
            raise BuildError(
                f"{include.origin} names {current}, which is not in the repository: commit it or remove the line"
            )
        self.inputs[current] = digest(content)
        return [
            found
            for number, line in _lines(content)
            if (found := self._line(include, line, f"{current}, line {number},")) is not None
        ]

    def _line(self, include: _Include, line: str, origin: str) -> _Include | None:
        current = include.name
        option, index = _OPTION.match(line), _INDEX.match(line)
        if index is not None:
            line = _index_line(current, index[1], index[2])
            self.indexes.append(line)
            # What lies in a folder of the repository may change while the list stays as it is.
            self.local = self.local or "{project}" in line
        elif option is None:
            self.local = self.local or _is_local(self._files, current, line)
            if not include.constraint and not line.startswith("-"):
                self.requirements.append(line.split(" --hash")[0].strip())
        elif option[1] in ("-e", "--editable"):
            self.local = self.local or "://" not in option[2] or option[2].startswith("file:")
        elif "://" not in option[2]:
            included = join(posixpath.dirname(current), option[2].strip("\"' "))
            return _Include(
                included, origin, include.constraint or option[1] in ("-c", "--constraint", "--constraints")
            )
        return None


def _index_line(current: str, option: str, value: str | None) -> str:
    if value is None:
        return option
    value = value.strip("\"' ")
    if option in ("-f", "--find-links") and "://" not in value and not value.startswith(("/", "~", "$")):
        value = "{project}/" + join(posixpath.dirname(current), value)
    return f"{option} {value}"


def _is_local(files: Files, current: str, line: str) -> bool:
    if _LOCAL.match(line):
        return True
    word = line.split("[")[0].split(";")[0].strip()
    return "/" in word and "://" not in word and files.is_folder(join(posixpath.dirname(current), word))


def _lines(content: str) -> Iterator[tuple[int, str]]:
    """Logical lines with the number of their first physical one; comments and blank lines are left out."""
    parts: list[str] = []
    for number, physical in enumerate(content.splitlines(), 1):
        parts.append(physical.removesuffix("\\"))
        if not physical.endswith("\\"):
            line = re.sub(r"(^|\s)#.*$", "", " ".join(parts)).strip()
            if line:
                yield number - len(parts) + 1, line
            parts = []
