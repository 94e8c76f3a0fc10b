"""Which modules mark functions: read in their sources, so that no other is ever imported."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import os
import sys
from collections.abc import Iterator, Set

from deferlite.runner.layout import Layout, ProjectError

LARGEST_SOURCE = 1024 * 1024
"""Bytes. What is longer was generated, and reading it as Python takes seconds."""
_MOST_SOURCES = 64 * 1024
_NAMED = 5


def marking(sources: list[str], layout: Layout) -> list[str]:
    """Those that mark functions, by the SDK's ``defer`` or by decorators that the project has made of it."""
    found = {source for source in sources if uses_sdk(source, layout)}
    decorators = {name for source in found for name in _decorators(source, layout)}
    return [source for source in sources if source in found or uses_sdk(source, layout, decorators)]


def uses_sdk(path: str, layout: Layout, marks: Set[str] = frozenset({"defer"})) -> bool:
    """Whether the module has the SDK's ``defer``, under whatever name, or one of ``marks`` by way of the project.

    Raises:
        ProjectError: it names deferlite and is not Python.
    """
    source = _read(path, layout) if marks else b""
    if not any(mark.encode() in source for mark in marks):
        return False
    try:
        nodes = list(ast.walk(ast.parse(source, path)))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if b"deferlite" not in source:
            return False
        raise ProjectError(syntax_fault(error, path, layout)) from None
    imports = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names = {alias.asname or "deferlite" for alias in imports if alias.name.split(".")[0] == "deferlite"}
    return any(_brings(node, names, marks, layout) for node in nodes)


def _read(path: str, layout: Layout) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            # Few are longer, and the room for the largest would be made for each.
            source = file.read(_MOST_SOURCES) or b""
            if len(source) == _MOST_SOURCES:
                source += file.read(LARGEST_SOURCE) or b""
    except OSError as error:
        print(f"{layout.relative(path)} is left out: {error.strerror}", file=sys.stderr)
        return b""
    if len(source) <= LARGEST_SOURCE:
        return source
    if b"deferlite" in source:
        size = os.stat(path).st_size // 1_000_000
        print(f"{layout.relative(path)} is left out: of {size} MB; [build] functions may name it", file=sys.stderr)
    return b""


def syntax_fault(error: BaseException, path: str, layout: Layout) -> str:
    line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {words} ({layout.relative(path)}{line})"


def _brings(node: ast.AST, names: set[str], marks: Set[str], layout: Layout) -> bool:
    if isinstance(node, ast.ImportFrom):
        module, found = node.module or "", {alias.name for alias in node.names}
        if module.split(".")[0] == "deferlite" and not node.level:
            return bool(found & {"defer", "*"})
        return not found.isdisjoint(marks) and (node.level > 0 or layout.find(module) is not None)
    # `import deferlite` alone may be there for other calls: the mark is `deferlite.defer`.
    return isinstance(node, ast.Attribute) and node.attr == "defer" and ast.unparse(node.value) in names


def _decorators(path: str, layout: Layout) -> Iterator[str]:
    """What a module makes of ``defer`` for others: functions around it, and ``defer`` with options alone."""
    tree = ast.parse(_read(path, layout))
    imported = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    names = {alias.asname or alias.name for node in imported for alias in node.names if alias.name == "defer"}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(
            _is_defer(inner, names) for statement in node.body for inner in ast.walk(statement)
        ):
            yield node.name
        elif isinstance(node, ast.Assign) and _is_decorator(node.value, names):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _is_decorator(value: ast.expr, names: set[str]) -> bool:
    if isinstance(value, ast.Call):
        # `defer(retry=3)` and `partial(defer, retry=3)`; `defer(function)` is a background function.
        return _is_defer(value.args[0] if value.args else value.func, names)
    return _is_defer(value, names)


def _is_defer(node: ast.AST, names: set[str]) -> bool:
    return (isinstance(node, ast.Name) and node.id in names) or (
        isinstance(node, ast.Attribute) and node.attr == "defer"
    )


def find_modules(layout: Layout, wanted: list[str]) -> tuple[list[str], int]:
    """Names of the modules to import, and how many files were looked at.

    Raises:
        ProjectError: something wanted is not there, or a module has no name to import it by.
    """
    modules: list[str] = []
    looked_at = 0
    for name in wanted or [layout.folder, *layout.outside]:
        path = layout.find(name)
        if path is None and not _is_module(name, layout):
            there = [layout.relative(source) for source in itertools.islice(layout.sources(layout.folder), _NAMED)]
            listed = f"; there are, for example: {', '.join(there)}" if there else ""
            raise ProjectError(f"[build] functions names {name}, which is not in the project{listed}")
        is_folder = path is not None and os.path.isdir(path)
        sources = list(layout.sources(path)) if path is not None and is_folder else []
        modules += map(layout.module_name, marking(sources, layout))
        looked_at += len(sources) if is_folder else 1
        modules += _named(name, path, layout)
    return list(dict.fromkeys(modules)), looked_at


def _is_module(name: str, layout: Layout) -> bool:
    """Whether a name that is none of the project's own may be that of an installed module."""
    top = name.partition(".")[0]
    if not top or "/" in name:
        return False
    return layout.locate(name) is not None or importlib.util.find_spec(top) is not None


def _named(name: str, path: str | None, layout: Layout) -> list[str]:
    """What is imported because it was named, whether it uses the SDK or not."""
    if path is None:
        return [name]
    if os.path.isfile(path):
        return [layout.module_name(path)]
    is_package = name.replace(".", "").isidentifier() and os.path.exists(os.path.join(path, "__init__.py"))
    return [name] if is_package else []
