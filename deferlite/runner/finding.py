"""Finds the background functions of a project. Runs inside the project's interpreter, by path, once per build.

The protocol. ``python run.py --discover REQUEST`` with the project's folder as working directory; REQUEST is a JSON
file:

    {"project": folder, "output": file to write, "functions": [modules or folders to search; empty: detect],
     "roots": [folders to search and import from besides the project's], "paths": [folders to import from only],
     "patience": seconds that importing may stand still}

of which the last three may be missing. The output is a JSON object, either

    {"interpreter": "CPython 3.12.1", "import_paths": [folders relative to the project, first one first],
     "django_settings": text or null, "modules": [modules that define functions, in the order of their import],
     "functions": [FUNCTION, …]}

with FUNCTION ``{"name", "module", "attribute", "is_async", "parameters": [{"name", "kind", "annotation", "default"}],
"metadata": the SDK's own, "aliases": [text], "doc", "file", "line"}``, or ``{"error": what to mend}``. stdout and
stderr stay the project's own. Nothing of this file's folder is on the module search path. Python 3.10 and later,
standard library only.

A background function is whatever has ``__fn__`` (the function as written) and ``__metadata__`` (a mapping with its
``name``), as an attribute of a module or of a class in it. Modules that use the SDK are found by reading the
sources; only those are imported.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from deferlite.runner.frameworks import find_django, start_django
from deferlite.runner.imports import PATIENCE, Imports
from deferlite.runner.inspection import collect
from deferlite.runner.layout import Layout, ProjectError
from deferlite.runner.marks import find_modules, uses_sdk

MARK = "from deferlite import defer, then @defer above a function at the top of a module"
_NAMES = {"cpython": "CPython", "pypy": "PyPy"}


class Answer:
    """What is written to ``output``: once, and then the process ends."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._once = _thread.allocate_lock()

    def give(self, answer: Mapping[str, Any]) -> NoReturn:
        self._once.acquire()
        with open(self._output, "w", encoding="utf-8") as file:
            json.dump(answer, file, default=repr)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        # Threads and exit handlers that the imports left behind must not hold the build up.
        os._exit(0)

    def fail(self, error: str) -> NoReturn:
        self.give({"error": error})


def discover(request: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    """The answer to one request.

    Raises:
        ProjectError: what is to be mended.
    """
    layout = Layout(request["project"], request.get("roots", ()), request.get("paths", ()))
    modules, looked_at = find_modules(layout, list(request["functions"]))
    sys.path[:0] = layout.import_paths()
    imports = Imports(layout, answer.fail, request.get("patience", PATIENCE))
    django = find_django(layout) if modules else None
    if django is not None:
        modules += [name for name in start_django(*django, layout, imports) if name not in modules]
    imports.modules(modules)
    functions = collect(modules, layout)
    if not functions:
        raise ProjectError(_nothing_found(layout, modules, looked_at))
    kind = sys.implementation.name
    defining = {function["module"] for function in functions}
    return {
        "interpreter": f"{_NAMES.get(kind, kind)} {sys.version.split()[0]}",
        "import_paths": [os.path.relpath(path, layout.folder) for path in layout.import_paths()],
        "django_settings": django[0] if django is not None else None,
        # Where modules import each other, another order may not work.
        "modules": [name for name in dict.fromkeys([*modules, *sys.modules]) if name in defining],
        "functions": functions,
    }


def _nothing_found(layout: Layout, modules: list[str], looked_at: int) -> str:
    looked = f"imported: {', '.join(modules[:10])}" if modules else "none of them uses deferlite's defer"
    node = "Node projects are not built yet: " if os.path.exists(f"{layout.folder}/package.json") else ""
    aside = next((layout.relative(file) for file in layout.left_alone() if _marks(file, layout)), None)
    name = "name the modules" if aside is None else f"name {aside}, which is not searched by itself"
    example = aside or "…"
    files = "Python file" if looked_at == 1 else "Python files"
    return (
        f"{node}no background functions found in {looked_at} {files} ({looked}); mark one: {MARK}, "
        f'or {name}: [build] functions = ["{example}"]'
    )


def _marks(file: str, layout: Layout) -> bool:
    try:
        return uses_sdk(file, layout)
    except ProjectError:
        return False


def answer_request(path: str) -> NoReturn:
    """Read the request, write its answer, end the process."""
    with open(path, encoding="utf-8") as file:
        request = json.load(file)
    answer = Answer(request["output"])
    try:
        answer.give(discover(request, answer))
    except ProjectError as error:
        answer.fail(str(error))
