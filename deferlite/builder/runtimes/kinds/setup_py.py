"""What a setup.py passes to ``setup()``, read without running it."""

from __future__ import annotations

import ast
import re
from typing import Any

import msgspec

_COMPILED = re.compile(r"\b(?:ext_modules|cffi_modules|rust_extensions|cythonize|mypycify|ext_package)\b")


LONGEST = 512 * 1024
"""Characters of a setup.py that is looked into: its syntax tree takes a hundred times as much memory."""


class SetupCall(msgspec.Struct, frozen=True):
    literals: dict[str, Any] = {}
    """Keyword arguments that are written out."""
    computed: frozenset[str] = frozenset()
    """Those that only running it would tell; ``**`` for arguments of unknown names."""
    where: tuple[str, ...] = ()
    """Folders that ``find_packages`` searches."""
    compiled: bool = False

    def text(self, name: str) -> str:
        found = self.literals.get(name)
        return found if isinstance(found, str) else ""

    def knows(self, name: str) -> bool:
        """Whether the argument's value, or that it is not passed at all, is certain."""
        return name not in self.computed and "**" not in self.computed

    def texts(self, name: str) -> list[str]:
        """An argument that is a list of text, or the lines of one text."""
        found = self.literals.get(name, [])
        if isinstance(found, str):
            return [line.strip() for line in found.splitlines() if line.strip()]
        return [one for one in found if isinstance(one, str)] if isinstance(found, list | tuple) else []

    def table(self, name: str) -> dict[str, Any]:
        found = self.literals.get(name)
        return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def read_setup_call(source: str | None) -> SetupCall:
    """Nothing is known of what does not parse: running it will say why."""
    if source is None:
        return SetupCall()
    compiled = _COMPILED.search(source) is not None
    if len(source) > LONGEST:
        return SetupCall(computed=frozenset({"**"}), compiled=compiled)
    try:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return SetupCall(computed=frozenset({"**"}), compiled=compiled)
    setups = [call for call in calls if _name(call) == "setup"]
    where = tuple(text for call in calls if _name(call) in _FINDERS and (text := _where(call)))
    if len(setups) != 1:
        return SetupCall(computed=frozenset({"**"}), where=where, compiled=compiled)
    literals: dict[str, Any] = {}
    computed = set()
    for keyword in setups[0].keywords:
        try:
            literals[keyword.arg or "**"] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, RecursionError, MemoryError):
            computed.add(keyword.arg or "**")
    return SetupCall(literals, frozenset(computed), where, compiled)


_FINDERS = ("find_packages", "find_namespace_packages")


def _name(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _where(call: ast.Call) -> str | None:
    values = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "where")]
    found = [one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return found[0] if found else None
