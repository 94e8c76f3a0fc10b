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


def read_requirements(files: Files, name: str) -> Requirements:
    """Read ``name`` and all it includes.

    Raises:
        BuildError: an included file is not there.
    """
    inputs: dict[str, str] = {}
    local = False
    waiting = [(name, "")]
    while waiting:
        current, origin = waiting.pop()
        if current in inputs:
            continue
        content = files.read(current)
        if content is None:
            raise BuildError(f"{origin} names {current}, which is not in the repository: commit it or remove the line")
        inputs[current] = digest(content)
        for number, line in _lines(content):
            option = _OPTION.match(line)
            if option is None:
                local = local or _is_local(files, current, line)
            elif option[1] in ("-e", "--editable"):
                local = local or "://" not in option[2] or option[2].startswith("file:")
            elif "://" not in option[2]:
                included = join(posixpath.dirname(current), option[2].strip("\"' "))
                waiting.append((included, f"{current}, line {number},"))
    return Requirements(inputs, local)


def _is_local(files: Files, current: str, line: str) -> bool:
    if _LOCAL.match(line):
        return True
    word = line.split("[")[0].split(";")[0].strip()
    return "/" in word and "://" not in word and files.is_folder(join(posixpath.dirname(current), word))


def _lines(content: str) -> Iterator[tuple[int, str]]:
    """Logical lines with the number of their first physical one; comments and blank lines are left out."""
    joined, start = "", 0
    for number, physical in enumerate(content.splitlines(), 1):
        start = start or number
        joined += physical
        if physical.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        line = re.sub(r"(^|\s)#.*$", "", joined).strip()
        if line:
            yield start, line
        joined, start = "", 0
