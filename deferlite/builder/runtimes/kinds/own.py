"""The project itself: where it is imported from, and what it is as a distribution."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Any

from deferlite.builder.plan import OwnProject
from deferlite.builder.runtimes.kinds.project import Project, Table, name_of

_ALWAYS_LOOKED_AT = (".", "src")
_COMPILING_BACKENDS = ("maturin", "mesonpy", "scikit_build_core", "py_build_cmake", "sipbuild", "setuptools_rust")
_COMPILING_NEEDS = frozenset(
    {"cython", "cffi", "setuptools-rust", "pybind11", "nanobind", "scikit-build", "hatch-cython", "hatch-mypyc"}
)
_VERSION = re.compile(r"(?m)^(?:__version__|version|VERSION)\s*(?::\s*\w+\s*)?=\s*['\"]([^'\"\n]+)['\"]", re.ASCII)
_IS_VERSION = re.compile(r"v?\d[A-Za-z0-9.!+_-]*\Z", re.ASCII)
_IS_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,200}[A-Za-z0-9])?\Z", re.ASCII)


def own_project(project: Project) -> OwnProject | None:
    """None where it is no distribution: it has no name, or nothing knows its version and nothing builds it."""
    name, version = _name(project), _version(project)
    compiled = _is_compiled(project)
    buildable = project.has("setup.py") or "build-system" in project.pyproject
    if not compiled and (not _IS_NAME.match(name) or (version is None and not buildable)):
        return None
    return OwnProject(
        name=name,
        version=version,
        requires=tuple(project.table.get("dependencies", [])),
        entry_points={group: found for group, found in _entry_points(project).items() if found},
        compiled=compiled,
    )


def _name(project: Project) -> str:
    metadata = project.tool("flit", "metadata")
    cfg = project.setup_cfg.get("metadata", {}).get("name", "").strip()
    names = project.table.get("name"), project.tool("poetry").get("name"), metadata.get("dist-name")
    return str(next((one for one in (*names, metadata.get("module"), cfg, project.setup.text("name")) if one), ""))


def _version(project: Project) -> str | None:
    written = (project.table.get("version"), project.tool("poetry").get("version"), project.setup.text("version"))
    cfg = project.setup_cfg.get("metadata", {}).get("version", "").strip()
    found = next((str(one) for one in (*written, cfg) if one), None) or _version_of_a_file(project)
    # Poetry's 0.0.0 stands for a version that a plugin sets.
    return found if found is not None and _IS_VERSION.match(found) else None


def _version_of_a_file(project: Project) -> str | None:
    dynamic = project.tool("setuptools", "dynamic", "version")
    named = dynamic.get("file")
    plain = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    for name in plain:
        text = project.files.read(name) if isinstance(name, str) else None
        if text is not None:
            return text.strip()
    for name in _version_modules(project, dynamic.get("attr")):
        match = _VERSION.search(project.files.read(name) or "")
        if match:
            return match[1]
    return None


def _version_modules(project: Project, attribute: Any) -> Iterator[str]:
    yield from _texts([project.tool("hatch", "version").get("path"), project.tool("pdm", "version").get("path")])
    modules: list[str] = []
    cfg = project.setup_cfg.get("metadata", {}).get("version", "").strip()
    for text in _texts([attribute, cfg.removeprefix("attr:").strip() if cfg.startswith("attr:") else None]):
        modules.append(text.rpartition(".")[0])
    if "flit" in str(project.pyproject.get("build-system", {}).get("build-backend", "")):
        module = project.tool("flit", "metadata").get("module") or project.tool("flit", "module").get("name")
        modules.append(str(module or _name(project).replace("-", "_")))
    roots = (*_ALWAYS_LOOKED_AT, *import_roots(project))
    for module in modules:
        for root in roots:
            path = posixpath.normpath(posixpath.join(root, module.replace(".", "/")))
            yield from (f"{path}/__init__.py", f"{path}.py")


def _texts(values: Iterable[Any]) -> Iterator[str]:
    yield from (one for one in values if isinstance(one, str) and one)


def _is_compiled(project: Project) -> bool:
    system: Table = project.pyproject.get("build-system", {})
    needs = {name_of(one) for one in system.get("requires", [])}
    hooks = project.tool("hatch", "build", "hooks") | project.tool("hatch", "build", "targets", "wheel", "hooks")
    return (
        str(system.get("build-backend", "")).startswith(_COMPILING_BACKENDS)
        or bool(needs & _COMPILING_NEEDS)
        or project.setup.compiled
        or bool(project.pyproject.get("tool", {}).get("setuptools", {}).get("ext-modules"))
        or "build" in project.tool("poetry")
        or "custom" in hooks
    )


def _entry_points(project: Project) -> dict[str, dict[str, str]]:
    table, poetry, flit = project.table, project.tool("poetry"), project.tool("flit")
    found = {"console_scripts": dict(table.get("scripts", {})), "gui_scripts": dict(table.get("gui-scripts", {}))}
    groups = [table.get("entry-points", {}), poetry.get("plugins", {}), flit.get("entrypoints", {})]
    groups += [{"console_scripts": {**flit.get("scripts", {}), **_poetry_scripts(poetry)}}]
    groups += [
        _lines_of(project.setup.table("entry_points")),
        _lines_of(project.setup_cfg.get("options.entry_points", {})),
    ]
    for group in groups:
        for name, points in group.items():
            found.setdefault(name, {}).update({key: str(value) for key, value in points.items()})
    return found


def _poetry_scripts(poetry: Table) -> dict[str, str]:
    scripts = poetry.get("scripts", {})
    named = {name: one.get("reference", "") if isinstance(one, dict) else str(one) for name, one in scripts.items()}
    return {name: reference for name, reference in named.items() if reference}


def _lines_of(groups: dict[str, Any]) -> dict[str, dict[str, str]]:
    """setuptools' ``{"group": ["name = module:attribute"]}``, or the same as lines of one text."""
    found = {}
    for group, value in groups.items():
        lines = value.splitlines() if isinstance(value, str) else value if isinstance(value, list) else []
        pairs = [str(line).partition("=") for line in lines if "=" in str(line)]
        found[group] = {name.strip(): target.strip() for name, _, target in pairs}
    return found


def import_roots(project: Project) -> tuple[str, ...]:
    """Folders inside the project that its settings name as the place of its modules, besides the usual ones."""
    found: list[str] = []
    for root in _named_roots(project):
        path = posixpath.normpath(root) if root else "."
        outside = path.startswith(("/", "..", "~"))
        if not outside and path not in (*_ALWAYS_LOOKED_AT, *found) and project.files.is_folder(path):
            found.append(path)
    return tuple(found)


def _named_roots(project: Project) -> Iterator[str]:
    options = project.setup_cfg.get("options", {})
    yield from _package_dirs(project.tool("setuptools", "package-dir"))
    yield from _package_dirs(project.setup.table("package_dir"))
    yield from _package_dirs(_lines_of({"": options.get("package_dir", "")})[""])
    yield from _texts(_many(project.tool("setuptools", "packages", "find").get("where")))
    yield from project.setup.where
    yield from project.setup_cfg.get("options.packages.find", {}).get("where", "").split()
    yield from _texts(one.get("from") for one in project.tool("poetry").get("packages", []))
    yield from _texts([project.tool("pdm", "build").get("package-dir")])
    yield from _texts([project.tool("uv", "build-backend").get("module-root")])
    yield from _texts([project.tool("maturin").get("python-source")])
    for table in (project.tool("hatch", "build"), project.tool("hatch", "build", "targets", "wheel")):
        sources = table.get("sources")
        yield from _texts(sources if isinstance(sources, list) else sources.keys() if isinstance(sources, dict) else [])
        yield from (posixpath.dirname(one) for one in _texts(_many(table.get("packages"))))


def _package_dirs(table: dict[str, Any]) -> Iterator[str]:
    """``{"": "lib"}``, or ``{"shop": "lib/shop"}`` where the folder has the package's name."""
    for package, folder in table.items():
        if isinstance(folder, str) and not package:
            yield folder
        elif isinstance(folder, str) and f"/{folder}".endswith("/" + package.replace(".", "/")):
            yield folder[: len(folder) - len(package)]


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
