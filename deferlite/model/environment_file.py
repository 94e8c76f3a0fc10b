"""An environment file's text → settings, or every fault of it with line, key, reason and cure. Reads nothing itself."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from deferlite.model import environment_checks as checks
from deferlite.model.environment import (
    BuildSettings,
    EnvironmentConfig,
    GitSettings,
    HookSettings,
    PreviewSettings,
    RunSettings,
    is_remote,
)
from deferlite.model.environment_checks import Check, Wrong, WrongItems
from deferlite.model.environment_schema import (
    FUNCTION,
    LATER,
    NOT_YET,
    OPEN_SECTIONS,
    SECTIONS,
    TOP,
    cure_unknown,
)
from deferlite.model.ids import is_environment_name
from deferlite.model.toml_lines import Path, key_lines

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

LARGEST = 1024 * 1024
"""Bytes of an environment file."""

_RESERVED = re.compile(r"DEFER_.*|NODE_OPTIONS|NODE_PATH|HOME|TMPDIR|TZ")
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
        known = {*TOP, *SECTIONS, "functions", "env", *LATER}
        top = self._table(
            (), {key: value for key, value in values.items() if key in TOP or key not in known}, TOP, known
        )
        if "repository" not in values and not any('"repository"' in fault.cure for fault in self.faults):
            self._fault((), "is missing", 'write repository = "/srv/shop" first', key="repository")
        sections = {name: self._section(name, values) for name in SECTIONS}
        functions = self._functions(values.get("functions", {}))
        env = self._env(("env",), values.get("env", {}))
        for name in LATER:
            self._checked((name,), values.get(name, {}), checks.any_table)
        self._agree(top, sections)
        self._say_not_yet(values)
        if self.faults:
            return None
        retention = {f"retention_{key}": value for key, value in sections["retention"].items()}
        return EnvironmentConfig(
            **top,
            build=BuildSettings(**sections["build"]),
            run=RunSettings(**sections["run"]),
            functions=functions,
            env=env,
            preview=PreviewSettings(**sections["preview"]) if sections["preview"] else None,
            git=GitSettings(**sections["git"]),
            hooks=HookSettings(**sections["hooks"]) if sections["hooks"] else None,
            notify=sections["notify"],
            **retention,
        )

    def _section(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        section = values.get(name, {})
        if not isinstance(section, dict):
            self._checked((name,), section, checks.any_table)
            return {}
        schema = SECTIONS[name]
        if name in OPEN_SECTIONS:
            schema = {**dict.fromkeys(section, lambda value: value), **schema}
        good = self._table((name,), section, schema, schema)
        if "env" in good:
            good["env"] = self._env((name, "env"), good["env"])
        if name == "preview" and section and not section.get("branches"):
            self._fault(
                (name,), "names no branches", 'write branches = ["feature/*"] under [preview]', key="preview.branches"
            )
        return good

    def _functions(self, values: Any) -> dict[str, dict[str, Any]]:
        good = {}
        for name, options in values.items() if isinstance(values, dict) else [("", values)]:
            if isinstance(options, dict):
                good[name] = self._table(("functions", name), options, FUNCTION, FUNCTION)
            else:
                cure = "write [functions.NAME] with the function's name, and its settings below"
                self._fault(("functions", name), f"is {checks.kind_of(options)}, not a function's settings", cure)
        return good

    def _env(self, at: Path, values: Any) -> dict[str, str | dict[str, str]]:
        if not isinstance(values, dict):
            self._fault(at, f"is {checks.kind_of(values)}, not a section", 'write [env], and below it NAME = "value"')
            return {}
        good: dict[str, str | dict[str, str]] = {}
        for name, value in values.items():
            try:
                good[name] = checks.variable(name, value)
            except Wrong as wrong:
                self._fault((*at, name), wrong.reason, wrong.cure)
            if _RESERVED.fullmatch(name):
                good.pop(name, None)
                self._note((*at, name), "is set by the platform: the file's value is not used")
        return good

    def _table(
        self, at: Path, values: dict[str, Any], schema: Mapping[str, Check], known: Iterable[str]
    ) -> dict[str, Any]:
        """The good values; unknown keys and wrong values become faults."""
        good: dict[str, Any] = {}
        for key, value in values.items():
            if key in schema:
                self._checked((*at, key), value, schema[key], good)
            else:
                self._fault((*at, key), "is not a setting", cure_unknown(at, key, known))
        return good

    def _checked(self, at: Path, value: Any, check: Check, good: dict[str, Any] | None = None) -> None:
        try:
            checked = check(value)
        except Wrong as wrong:
            self._fault(at, wrong.reason, wrong.cure)
        except WrongItems as wrong_items:
            for place, item in wrong_items.items.items():
                self._fault((*at, place), item.reason, item.cure)
        else:
            if good is not None:
                good[str(at[-1])] = checked

    def _agree(self, top: dict[str, Any], sections: dict[str, dict[str, Any]]) -> None:
        """Settings that are good alone and wrong together."""
        if top.get("worktree") and is_remote(top.get("repository", "")):
            self._fault(("worktree",), "needs a checkout on this machine", "remove it, or name a folder in repository")
        if top.get("worktree") and "branch" in top:
            self._note(("branch",), "is not used with worktree = true, which builds the checkout as it stands")
        if "preview" in sections and top.get("worktree") and sections["preview"]:
            self._fault(("preview",), "needs branches, and worktree = true builds no branch", "remove one of the two")
        if set(sections["git"]) - {"submodules"} and not is_remote(top.get("repository", "")):
            self._note(("git",), "is not used: the repository is on this machine")
        if "reuse" in sections["run"] and sections["run"].get("isolation") != "reuse":
            self._note(("run", "reuse"), 'is not used without isolation = "reuse"')

    def _say_not_yet(self, values: dict[str, Any]) -> None:
        for rule, what in NOT_YET.items():
            key, _, wanted = rule.partition("=")
            path = tuple(key.split("."))
            value: Any = values
            for part in path:
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None and (not wanted or value == wanted):
                self._note(path, f"not yet: {what}")

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
