"""On which line of a TOML text each key stands: the standard parser gives values without places.

The text is one that the parser has accepted already, so that only what separates keys from values is read here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import count

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

Path = tuple[str | int, ...]
"""Keys from the top; a number is an item's place in an array."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_TEXT = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")|' + r"'''.*?'{3,5}(?!')|" + r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'""", re.DOTALL
)
_BARE = re.compile(r"[^,\]}#\n]*")


def key_lines(text: str) -> dict[Path, int]:
    """The first line (from 1) that names each key, table and array item of ``text``."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._line = 1
        self._arrays: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        self._skip()
        while self._at < len(self._text):
            if self._text.startswith("[[", self._at):
                table = self._header(2)
            elif self._text[self._at] == "[":
                table = self._header(1)
            else:
                self._pair(table)
            self._skip()

    def _header(self, brackets: int) -> Path:
        self._move(self._at + brackets)
        path: Path = ()
        keys = self._keys()
        for place, key in enumerate(keys):
            path = (*path, key)
            self.lines.setdefault(path, self._line)
            if brackets == 2 and place == len(keys) - 1:
                self._arrays[path] = self._arrays.get(path, -1) + 1
            if path in self._arrays:
                path = (*path, self._arrays[path])
                self.lines.setdefault(path, self._line)
        self._move(self._at + brackets)
        return path

    def _pair(self, table: Path) -> None:
        path = table
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, self._line)
        self._move(self._at + 1)
        self._value(path)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip()
            found = _KEY.match(self._text, self._at)
            if found is None:
                raise ValueError(f"line {self._line}: no key")
            keys.append(_unquoted(found[0]))
            self._move(found.end())
            self._skip()
            if not self._text.startswith(".", self._at):
                return keys
            self._move(self._at + 1)

    def _value(self, path: Path) -> None:
        self._skip()
        opening = self._text[self._at : self._at + 1]
        if opening == "[":
            self._items(path)
        elif opening == "{":
            self._inline(path)
        else:
            found = _TEXT.match(self._text, self._at) or _BARE.match(self._text, self._at)
            self._move(found.end() if found else len(self._text))

    def _items(self, path: Path) -> None:
        for place in self._parts("]"):
            self.lines.setdefault((*path, place), self._line)
            self._value((*path, place))

    def _inline(self, path: Path) -> None:
        for _ in self._parts("}"):
            self._pair(path)

    def _parts(self, closing: str) -> Iterator[int]:
        """Stands at the start of each part of an array or inline table, until its end is passed."""
        self._move(self._at + 1)
        for place in count():
            self._skip()
            if self._text.startswith(",", self._at):
                self._move(self._at + 1)
                self._skip()
            if self._at >= len(self._text) or self._text[self._at] == closing:
                break
            yield place
        self._move(self._at + 1)

    def _skip(self) -> None:
        blank = _BLANK.match(self._text, self._at)
        self._move(blank.end() if blank else self._at)

    def _move(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._at = to


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    return next(iter(tomllib.loads(f"{key} = 0")))
