"""Describes the background functions of the modules that have been imported."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from deferlite.runner.layout import Layout, ProjectError

_DEEPEST_CLASS = 4


def collect(imported: list[str], layout: Layout) -> list[dict[str, Any]]:
    """Every background function of the project's loaded modules, once, sorted by name.

    Raises:
        ProjectError: two have one name, or one has none.
    """
    found: dict[str, dict[str, Any]] = {}
    seen: set[int] = set()
    for name, module in _modules(imported, layout):
        for attribute, thing in _things(module, layout):
            if id(thing) not in seen and _is_background(thing):
                seen.add(id(thing))
                _add(found, describe(thing, name, attribute, layout))
    return [found[name] for name in sorted(found)]


def _add(found: dict[str, dict[str, Any]], function: dict[str, Any]) -> None:
    place = f"{function['file']}, line {function['line']}"
    name = function["name"]
    if not isinstance(name, str) or not name or name == "<lambda>":
        raise ProjectError(f"a background function needs a name: write the one in {place} with def")
    other = found.setdefault(name, function)
    # A file that is imported under two names makes two objects of one function.
    if (other["file"], other["line"]) != (function["file"], function["line"]):
        places = f"{other['file']}, line {other['line']} and {place}"
        raise ProjectError(f'two background functions are named "{name}": {places}; rename one')


def _modules(imported: list[str], layout: Layout) -> Iterator[tuple[str, ModuleType]]:
    """Those asked for first: a function that others import too is known by the module that was found."""
    others = sorted(name for name in tuple(sys.modules) if name not in imported and name != "__main__")
    for name in [*imported, *others]:
        module = sys.modules.get(name)
        if isinstance(module, ModuleType) and (name in imported or layout.is_own(getattr(module, "__file__", None))):
            yield name, module


def _things(module: ModuleType, layout: Layout) -> Iterator[tuple[str, object]]:
    """What a module has, and what the classes written in it have, by the names to reach it."""
    for attribute, thing in sorted(vars(module).items()):
        yield attribute, thing
        if issubclass(type(thing), type) and vars(thing).get("__module__") == module.__name__:
            yield from _members(attribute, thing, _DEEPEST_CLASS, layout)


def _members(path: str, owner: Any, depth: int, layout: Layout) -> Iterator[tuple[str, object]]:
    for name, member in tuple(vars(owner).items()):
        thing = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
        if _is_background(thing):
            _check_member(f"{path}.{name}", member, thing, layout)
            yield f"{path}.{name}", thing
        elif issubclass(type(thing), type) and depth and thing.__qualname__ == f"{path}.{name}":
            yield from _members(f"{path}.{name}", thing, depth - 1, layout)


def _check_member(path: str, member: object, thing: Any, layout: Layout) -> None:
    """Raise for methods: a runner has no object, and no class, to call them on."""
    code = getattr(inspect.unwrap(thing.__fn__), "__code__", None)
    first = code.co_varnames[:1] if code is not None and code.co_argcount else ()
    if isinstance(member, classmethod) or (not isinstance(member, staticmethod) and first in (("self",), ("cls",))):
        where = f" ({layout.relative(code.co_filename)}, line {code.co_firstlineno})" if code is not None else ""
        raise ProjectError(
            f"{path}{where} is a method, which cannot be a background function: mark a function or a @staticmethod"
        )


def _is_background(thing: object) -> bool:
    # Statically: a lazy proxy must not be woken up by looking at it.
    try:
        function = inspect.getattr_static(thing, "__fn__", None)
        metadata = inspect.getattr_static(thing, "__metadata__", None)
    except Exception:
        return False
    return function is not None and metadata is not None and not issubclass(type(thing), type)


def describe(thing: Any, module: str, attribute: str, layout: Layout) -> dict[str, Any]:
    function, metadata = thing.__fn__, thing.__metadata__
    home = sys.modules.get(getattr(function, "__module__", None) or "")
    if home is not None and home.__name__ != module:
        own = [name for name, value in vars(home).items() if value is thing]
        module, attribute = (home.__name__, own[0]) if own else (module, attribute)
    written = inspect.unwrap(function)
    code = getattr(written, "__code__", None)
    known = metadata if isinstance(metadata, Mapping) else {}
    return {
        "name": known.get("name"),
        "module": module,
        "attribute": attribute,
        "is_async": inspect.iscoroutinefunction(function)
        or (callable(function) and inspect.iscoroutinefunction(type(function).__call__)),
        "parameters": _parameters(function),
        "metadata": metadata,
        "aliases": known.get("aliases") or [],
        "doc": next(iter((inspect.getdoc(written) or "").splitlines()), ""),
        "file": layout.relative(code.co_filename) if code else module,
        "line": code.co_firstlineno if code else 0,
    }


def _parameters(function: Any) -> list[dict[str, Any]]:
    options: dict[str, Any] = {}
    if sys.version_info >= (3, 14):
        # As text: a name that is imported for type checkers only cannot be evaluated.
        options["annotation_format"] = importlib.import_module("annotationlib").Format.STRING
    try:
        signature = inspect.signature(function, **options)
    except (TypeError, ValueError):
        return []
    return [_parameter(parameter) for parameter in signature.parameters.values()]


def _parameter(parameter: inspect.Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {"name": parameter.name, "kind": parameter.kind.name.lower()}
    note = parameter.annotation
    if note is not inspect.Parameter.empty:
        described["annotation"] = note if isinstance(note, str) else inspect.formatannotation(note)
    if parameter.default is not inspect.Parameter.empty:
        described["default"] = _repr(parameter.default)
    return described


def _repr(value: object) -> str:
    try:
        return repr(value)[:200]
    except Exception:
        return f"<{type(value).__name__}>"
