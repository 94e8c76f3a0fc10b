"""An environment file's text → settings, or every fault of it with line, key, reason and cure. Reads nothing itself."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from deferlite.model import build_checks
from deferlite.model.environment import EnvironmentConfig, is_remote
from deferlite.model.environment_checks import RESERVED, Check, Wrong, WrongItems, kind_of
from deferlite.model.environment_schema import ANY, LATER, REQUIRED, SCHEMA, Schema, cure_unknown, not_yet
from deferlite.model.ids import is_environment_name
from deferlite.model.toml_lines import Path, key_lines

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

LARGEST = 1024 * 1024
"""Bytes of an environment file."""

_PLACE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")


class Fault(msgspec.Struct, frozen=True):
    """One thing to mend. ``key`` is dotted (``build.timeout``), empty for the file as a whole."""

    line: int
    key: str
    reason: str
    cure: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.key + ' ' if self.key else ''}{self.reason}: {self.cure}"


class ParsedFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says. ``config`` is None exactly when there are faults; notes are sentences for the log."""

    name: str
    path: str
    config: EnvironmentConfig | None
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def error(self) -> str:
        """All faults, one a line, each with the file; empty for a good file."""
        return "\n".join(f"{self.path}, {fault}" for fault in self.faults)


def parse_bytes(data: bytes, name: str, path: str) -> ParsedFile:
    """As ``parse``, of a file's content as it stands on the disk."""
    fault = _fault_of_bytes(data)
    return failed(name, path, fault) if fault is not None else parse(data.decode(), name, path)


def _fault_of_bytes(data: bytes) -> Fault | None:
    if len(data) > LARGEST:
        return Fault(1, "", "is longer than 1 MiB", "an environment file has at most 1 MiB: is it the right one?")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Fault(1, "", "is UTF-16 text", "save it as UTF-8")
    if data.startswith(b"\xef\xbb\xbf"):
        return Fault(1, "", "begins with a byte order mark", "save it as UTF-8 without one (BOM)")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Fault(line, "", "is not UTF-8 text", "save the file as UTF-8")
    return None


def parse(text: str, name: str, path: str) -> ParsedFile:
    """Read the environment file ``path`` of environment ``name``; ``path`` is for messages only."""
    if not is_environment_name(name):
        return failed(name, path, name_fault(name))
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return failed(name, path, _syntax_fault(text, str(error)))
    except RecursionError:
        return failed(name, path, Fault(1, "", "is nested too deeply", "write it flat, with [sections]"))
    reader = _Reader(path, key_lines(text.replace("\r\n", "\n")))
    config = reader.config(values)
    faults = sorted(reader.faults, key=lambda fault: fault.line)
    return ParsedFile(name=name, path=path, config=config, faults=tuple(faults), notes=tuple(reader.notes))


def failed(name: str, path: str, fault: Fault) -> ParsedFile:
    return ParsedFile(name=name, path=path, config=None, faults=(fault,))


def name_fault(name: str) -> Fault:
    """The fault of a file whose name cannot be an environment's."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63] or "staging"
    return Fault(
        1,
        "",
        f'"{name}" cannot be the name of an environment',
        f"rename the file to {plain}.toml (small letters, digits and -, at most 63, not beginning with -)",
    )


def _syntax_fault(text: str, said: str) -> Fault:
    place = _PLACE.search(said)
    lines = text.splitlines() or [""]
    line = int(place[1]) if place and place[1] else len(lines)
    reason = _PLACE.sub("", said)
    # The line itself is not quoted: it may hold a secret.
    cures = {
        "Cannot overwrite": "the key stands twice: keep one",
        "Cannot declare": "the section stands twice: put both together under one heading",
        "Invalid value": "write texts between quotes, true and false in small letters",
        "Expected '='": 'write each line as key = "value"',
        "Unescaped '\\'": "write \\\\ for \\, or put the text between single quotes",
        "Unterminated string": "close the quotes on the same line",
        "Illegal character '\\n'": "close the quotes on the same line",
        "Unclosed array": "close the list with ]",
        "Unclosed inline table": "close the table with } on the same line",
        "Expected ']'": "close the section's heading with ]",
        "Expected newline": 'put each key on a line of its own, and texts between quotes: key = "value"',
    }
    cure = next((cure for start, cure in cures.items() if reason.startswith(start)), 'write each line as key = "value"')
    return Fault(line, "", f"is not TOML: {reason[:1].lower()}{reason[1:]}", cure)


class _Reader:
    """Goes through a file's values and gathers every fault and note on the way."""

    def __init__(self, path: str, lines: dict[Path, int]) -> None:
        self.faults: list[Fault] = []
        self.notes: list[str] = []
        self._path = path
        self._lines = lines

    def config(self, values: dict[str, Any]) -> EnvironmentConfig | None:
        good = self._table((), values, SCHEMA)
        self._agree(good)
        self._say_reserved(("env",), values)
        self._say_reserved(("preview", "env"), values)
        for at, instead in not_yet(values, {}):
            self._note(at, f"not yet: {instead}")
        if self.faults:
            return None
        retention = good.pop("retention", {}).items()
        known = {key: value for key, value in good.items() if key not in LATER}
        return msgspec.convert(known | {f"retention_{key}": value for key, value in retention}, EnvironmentConfig)

    def _table(self, at: Path, values: dict[str, Any], schema: Schema) -> dict[str, Any]:
        """The good values; what is unknown, wrong or missing becomes a fault."""
        good: dict[str, Any] = {}
        cures = []
        for key, value in values.items():
            here, rule = (*at, key), schema.get(key, schema.get(ANY))
            if rule is None:
                cures.append(cure_unknown(at, key, schema))
                self._fault(here, "is not a setting", cures[-1])
            elif not isinstance(rule, Mapping):
                self._checked(here, value, rule, good)
            elif isinstance(value, dict):
                good[key] = self._table(here, value, rule)
            else:
                heading = _dotted(here if key in schema else (*at, "NAME"))
                cure = f"write it as a [section] of its own, [{heading}]"
                self._fault(here, f"is {kind_of(value)}, not a section", cure)
        for path, cure in REQUIRED.items():
            # A key that is misspelt is there.
            if path[:-1] == at and path[-1] not in values and not any(f'"{path[-1]}"' in said for said in cures):
                self._fault(at, "is missing", cure, key=_dotted(path))
        return good

    def _checked(self, at: Path, value: Any, check: Check, good: dict[str, Any]) -> None:
        try:
            good[str(at[-1])] = check(value)
        except Wrong as wrong:
            self._fault(at, wrong.reason, wrong.cure)
        except WrongItems as wrong_items:
            for place, item in wrong_items.items.items():
                self._fault((*at, place), item.reason, item.cure)

    def _agree(self, good: dict[str, Any]) -> None:
        """Settings that are good alone and wrong together."""
        remote, worktree, run = is_remote(good.get("repository", "")), good.get("worktree"), good.get("run", {})
        if worktree and remote:
            self._fault(("worktree",), "needs a checkout on this machine", "remove it, or name a folder in repository")
        if worktree and "branch" in good:
            self._note(("branch",), "is not used with worktree = true, which builds the checkout as it stands")
        if worktree and "preview" in good:
            self._fault(("preview",), "needs branches, and worktree = true builds no branch", "remove one of the two")
        if not remote and set(good.get("git", {})) - {"submodules"}:
            self._note(("git",), "is not used: the repository is on this machine")
        self._agree_overrides(good.get("build", {}))
        if "reuse" in run and run.get("isolation") != "reuse":
            self._note(("run", "reuse"), 'is not used without isolation = "reuse"')

    def _agree_overrides(self, build: dict[str, Any]) -> None:
        # Versions of Node's packages are written in another way.
        overrides = build.get("overrides", {}) if build.get("runtime") != "node" else {}
        for name, version in overrides.items():
            try:
                build_checks.override(version)
            except Wrong as wrong:
                self._fault(("build", "overrides", name), wrong.reason, wrong.cure)

    def _say_reserved(self, at: Path, values: Any) -> None:
        for part in at:
            values = values.get(part) if isinstance(values, dict) else None
        for name in filter(RESERVED.fullmatch, values if isinstance(values, dict) else ()):
            self._note((*at, name), "is set by the platform: the file's value is not used")

    def _note(self, at: Path, text: str) -> None:
        self.notes.append(f"{self._path}, line {self._line(at)}: {_dotted(at)} {text}")

    def _fault(self, at: Path, reason: str, cure: str, key: str | None = None) -> None:
        self.faults.append(Fault(self._line(at), key or _dotted(at), reason, cure))

    def _line(self, at: Path) -> int:
        while at and at not in self._lines:
            at = at[:-1]
        return self._lines.get(at, 1)


def _dotted(at: Path) -> str:
    dotted = ""
    for part in at:
        dotted += f"[{part}]" if isinstance(part, int) else f"{'.' if dotted else ''}{part}"
    return dotted.rstrip(".")
