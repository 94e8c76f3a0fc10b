"""Finds the background functions of a project. Runs inside the project's interpreter, by path, once per build.

The protocol. ``python discover.py REQUEST`` with the project's folder as working directory; REQUEST is a JSON file:
``{"project": folder, "functions": [modules or folders to search; empty: detect], "output": file to write}``.
The output is a JSON object, either

    {"interpreter": "CPython 3.12.1", "import_paths": [folders relative to the project, first one first],
     "django_settings": text or null, "modules": [modules that define functions], "functions": [FUNCTION, …]}

with FUNCTION ``{"name", "module", "attribute", "is_async", "parameters": [{"name", "kind", "annotation", "default"}],
"metadata": the SDK's own, "doc", "file", "line"}``, or ``{"error": what to mend}``. stdout and stderr stay the
project's own. Nothing of this file's folder is on the module search path. Python 3.10 and later, standard library only.

A background function is whatever has ``__fn__`` (the function as written) and ``__metadata__`` (a mapping with its
``name``). Modules that use the SDK are found by reading the sources; only those are imported.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import os
import platform
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

SKIPPED_FOLDERS = frozenset(
    {"tests", "test", "migrations", "node_modules", "site-packages", "__pycache__", "venv", "env", "virtualenv"}
)
SKIPPED_AT_THE_TOP = frozenset({"build", "dist"})
SKIPPED_FILES = frozenset({"conftest.py", "setup.py", "noxfile.py", "manage.py", "__main__.py"})
MARK = "from deferlite import defer, then @defer above a function at the top of a module"


class ProjectError(Exception):
    """What is wrong with the project, for people."""


class Project:
    """The sources as they lie there, and the names their modules are imported by."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manage = next(self._manage_files(), None)
        roots = [folder, folder / "src"]
        if self.manage is not None:
            roots.append(self.manage.parent)
        # The innermost root comes first: there `import app` means the nearest one.
        self.roots = sorted(
            {root for root in roots if root.is_dir() and not (root != folder and (root / "__init__.py").exists())},
            key=lambda root: (-len(root.parts), root),
        )

    def _manage_files(self) -> Iterator[Path]:
        for pattern in ("manage.py", "*/manage.py", "*/*/manage.py"):
            for path in sorted(self.folder.glob(pattern)):
                parents = path.relative_to(self.folder).parts[:-1]
                if not any(part.startswith(".") or part in SKIPPED_FOLDERS for part in parents):
                    yield path

    def sources(self, below: Path) -> Iterator[Path]:
        """The Python files below a folder that may define functions."""
        for name, folders, files in os.walk(below):
            top = Path(name) == self.folder
            folders[:] = sorted(one for one in folders if not _skipped(Path(name, one), top))
            yield from (Path(name, file) for file in sorted(files) if _is_source(file) and Path(name, file).is_file())

    def module_name(self, path: Path) -> str:
        for root in self.roots:
            if path.is_relative_to(root):
                parts = list(path.relative_to(root).with_suffix("").parts)
                return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        raise ProjectError(f"{path} is outside of the project")

    def find(self, name: str) -> Path | None:
        """The file or folder that a module's name or a path stands for."""
        candidates = [self.folder / name, self.folder / f"{name}.py"]
        candidates += [root / name.replace(".", "/") for root in self.roots]
        candidates += [root / (name.replace(".", "/") + ".py") for root in self.roots]
        inside = (path for path in candidates if path.resolve().is_relative_to(self.folder))
        return next((path for path in inside if path.exists()), None)

    def relative(self, path: str | Path) -> str:
        real = os.path.realpath(path)
        return os.path.relpath(real, self.folder) if self.holds(real) else str(path)

    def holds(self, path: str | None) -> bool:
        return path is not None and path.startswith(f"{self.folder}{os.sep}")


def _skipped(folder: Path, at_the_top: bool) -> bool:
    name = folder.name
    if name.startswith(".") or name in SKIPPED_FOLDERS or name.endswith(".egg-info"):
        return True
    return (at_the_top and name in SKIPPED_AT_THE_TOP) or (folder / "pyvenv.cfg").exists()


def _is_source(name: str) -> bool:
    if not name.endswith(".py") or name.startswith((".", "test_")) or "." in name[:-3]:
        return False
    return not name.endswith("_test.py") and name not in SKIPPED_FILES


def uses_sdk(path: Path, project: Project) -> bool:
    """Whether the module marks functions: it has the SDK's ``defer``, under whatever name or by way of the project."""
    source = path.read_bytes()
    if b"defer" not in source:
        return False
    try:
        nodes = list(ast.walk(ast.parse(source, str(path))))
    except (SyntaxError, ValueError) as error:
        if b"deferlite" not in source:
            return False
        raise ProjectError(_syntax(error, path, project)) from None
    imports = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names = {alias.asname or "deferlite" for alias in imports if alias.name.split(".")[0] == "deferlite"}
    return any(_brings_defer(node, names, project) for node in nodes)


def _brings_defer(node: ast.AST, names: set[str], project: Project) -> bool:
    if isinstance(node, ast.ImportFrom):
        module, found = node.module or "", {alias.name for alias in node.names}
        if module.split(".")[0] == "deferlite" and not node.level:
            return bool(found & {"defer", "*"})
        return "defer" in found and (node.level > 0 or project.find(module) is not None)
    # `import deferlite` alone may be there for other calls: the mark is `deferlite.defer`.
    return isinstance(node, ast.Attribute) and node.attr == "defer" and ast.unparse(node.value) in names


def find_modules(project: Project, wanted: list[str]) -> tuple[list[str], int]:
    """Names of the modules to import, and how many files were looked at."""
    modules: list[str] = []
    looked_at = 0
    for name in wanted or ["."]:
        path = project.find(name)
        if path is None and "/" in name:
            raise ProjectError(f"[build] functions names {name}, which is not in the project")
        sources = list(project.sources(path)) if path is not None and path.is_dir() else []
        modules += [project.module_name(source) for source in sources if uses_sdk(source, project)]
        looked_at += len(sources) if path is not None and path.is_dir() else 1
        if path is None or (name.replace(".", "").isidentifier() and (path / "__init__.py").exists()):
            modules.append(name)
        elif path.is_file():
            modules.append(project.module_name(path))
    return list(dict.fromkeys(modules)), looked_at


def find_django(project: Project) -> str | None:
    """The settings module that manage.py names, unless the variables name one; None where there is no Django."""
    if importlib.util.find_spec("django") is None:
        return None
    if "DJANGO_SETTINGS_MODULE" in os.environ:
        return os.environ["DJANGO_SETTINGS_MODULE"]
    if project.manage is None:
        return None
    source = project.manage.read_text(encoding="utf-8", errors="replace")
    match = re.search(r"""['"]DJANGO_SETTINGS_MODULE['"]\s*[,\]]\s*=?\s*['"]([\w.]+)['"]""", source)
    return match[1] if match else None


def start_django(settings: str, project: Project) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    try:
        importlib.import_module("django").setup()
    except BaseException as error:
        _print_users_frames(error, project)
        raise ProjectError(_fault(f"set up Django with {settings}", error, project)) from None


def import_modules(names: list[str], project: Project) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as error:
            _print_users_frames(error, project)
            raise ProjectError(_fault(f"import {name}", error, project)) from None


def _fault(doing: str, error: BaseException, project: Project) -> str:
    if isinstance(error, SyntaxError):
        return f"cannot {doing}: {_syntax(error, Path(error.filename or '?'), project)}"
    place = _users_place(error.__traceback__, project)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"cannot {doing}: {what}{place}{_cure(error, project)}"


def _syntax(error: SyntaxError | ValueError, path: Path, project: Project) -> str:
    line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {words} ({project.relative(path)}{line})"


def _cure(error: BaseException, project: Project) -> str:
    if isinstance(error, SystemExit):
        return '; code that runs or exits belongs under `if __name__ == "__main__":`'
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        if any((root / top).exists() or (root / f"{top}.py").exists() for root in project.roots):
            return ""
        return f"; add the package that has {top} to the project's dependencies"
    return ""


def _users_place(trace: TracebackType | None, project: Project) -> str:
    frames = [frame for frame in traceback.extract_tb(trace) if project.holds(frame.filename)]
    return f" ({project.relative(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""


def _print_users_frames(error: BaseException, project: Project) -> None:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if project.holds(frame.filename)]
    print("Traceback (most recent call last):", file=sys.stderr)
    print("".join(traceback.format_list(frames) + traceback.format_exception_only(error)), end="", file=sys.stderr)


def collect(imported: list[str], project: Project) -> list[dict[str, Any]]:
    """Every background function of the project's loaded modules, once, sorted by name."""
    found: dict[str, tuple[object, dict[str, Any]]] = {}
    seen: set[int] = set()
    for name, module in _project_modules(imported, project):
        for attribute, thing in sorted(vars(module).items()):
            if id(thing) not in seen and _is_background(thing):
                seen.add(id(thing))
                _add(found, thing, describe(thing, name, attribute, project))
    return [function for _, function in sorted((name, entry[1]) for name, entry in found.items())]


def _add(found: dict[str, tuple[object, dict[str, Any]]], thing: object, function: dict[str, Any]) -> None:
    place = f"{function['file']}, line {function['line']}"
    name = function["name"]
    if not isinstance(name, str) or not name or name == "<lambda>":
        raise ProjectError(f"a background function needs a name: write the one in {place} with def")
    other = found.setdefault(name, (thing, function))[1]
    if other is not function and (other["file"], other["line"]) != (function["file"], function["line"]):
        places = f"{other['file']}, line {other['line']} and {place}"
        raise ProjectError(f'two background functions are named "{name}": {places}; rename one')


def _project_modules(imported: list[str], project: Project) -> Iterator[tuple[str, ModuleType]]:
    """Those asked for first: a function that others import too is known by the module that was found."""
    others = sorted(name for name in tuple(sys.modules) if name not in imported and name != "__main__")
    for name in [*imported, *others]:
        module = sys.modules.get(name)
        if isinstance(module, ModuleType) and (name in imported or project.holds(getattr(module, "__file__", None))):
            yield name, module


def _is_background(thing: object) -> bool:
    # Statically: a lazy proxy must not be woken up by looking at it.
    try:
        function = inspect.getattr_static(thing, "__fn__", None)
        metadata = inspect.getattr_static(thing, "__metadata__", None)
    except Exception:
        return False
    return function is not None and metadata is not None and not isinstance(thing, type)


def describe(thing: Any, module: str, attribute: str, project: Project) -> dict[str, Any]:
    function, metadata = thing.__fn__, thing.__metadata__
    home = sys.modules.get(getattr(function, "__module__", None) or "")
    if home is not None and home.__name__ != module:
        own = [name for name, value in vars(home).items() if value is thing]
        module, attribute = (home.__name__, own[0]) if own else (module, attribute)
    written = inspect.unwrap(function)
    code = getattr(written, "__code__", None)
    return {
        "name": metadata.get("name") if isinstance(metadata, Mapping) else None,
        "module": module,
        "attribute": attribute,
        "is_async": inspect.iscoroutinefunction(function)
        or (callable(function) and inspect.iscoroutinefunction(type(function).__call__)),
        "parameters": _parameters(function),
        "metadata": metadata,
        "doc": next(iter((inspect.getdoc(written) or "").splitlines()), ""),
        "file": project.relative(code.co_filename) if code else module,
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
        described["default"] = repr(parameter.default)[:200]
    return described


def discover(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one request.

    Raises:
        ProjectError: what is to be mended.
    """
    project = Project(Path(request["project"]).resolve())
    sys.path[:0] = [str(root) for root in project.roots]
    modules, looked_at = find_modules(project, list(request["functions"]))
    settings = find_django(project) if modules else None
    if settings is not None:
        start_django(settings, project)
    import_modules(modules, project)
    functions = collect(modules, project)
    if not functions:
        looked = f"imported: {', '.join(modules[:10])}" if modules else "none of them uses deferlite's defer"
        node = "Node projects are not built yet: " if (project.folder / "package.json").exists() else ""
        raise ProjectError(
            f"{node}no background functions found in {looked_at} Python files ({looked}); mark one: {MARK}, "
            'or name the modules: [build] functions = ["…"]'
        )
    return {
        "interpreter": f"{platform.python_implementation()} {platform.python_version()}",
        "import_paths": [str(root.relative_to(project.folder)) for root in project.roots],
        "django_settings": settings,
        "modules": sorted({function["module"] for function in functions}),
        "functions": functions,
    }


def main() -> None:
    if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
        del sys.path[0]
    request = json.loads(Path(sys.argv.pop()).read_text(encoding="utf-8"))
    try:
        answer = discover(request)
    except ProjectError as error:
        answer = {"error": str(error)}
    Path(request["output"]).write_text(json.dumps(answer, default=repr), encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads and exit handlers that the imports left behind must not hold the build up.
    os._exit(0)


if __name__ == "__main__":
    main()
