"""A project's sources as they lie there: its files, its import roots, and what its modules are called."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence

SKIPPED_FOLDERS = frozenset(
    {"tests", "test", "migrations", "node_modules", "site-packages", "__pycache__", "venv", "virtualenv"}
)
SKIPPED_AT_THE_TOP = frozenset({"build", "dist", "scripts", "bin", "docs", "doc"})
SKIPPED_FILES = frozenset({"conftest.py", "setup.py", "noxfile.py", "manage.py", "__main__.py"})
VENV_MARKS = frozenset({"pyvenv.cfg", "conda-meta"})


class ProjectError(Exception):
    """What is wrong with the project, for people."""


class Layout:
    """The project's folder, the folders its modules are imported from, and names for what lies in them.

    ``roots`` (absolute) are searched for functions too, ``paths`` are only there to import from.
    """

    def __init__(self, folder: str, roots: Iterable[str] = (), paths: Iterable[str] = ()) -> None:
        self.folder = os.path.realpath(folder)
        self.files = list(python_files(self.folder, skip_top=True))
        near = (file for file in self.named("manage.py") if file.count(os.sep) <= self.folder.count(os.sep) + 3)
        self.manage = next(near, None)
        found = [self.folder, *map(os.path.realpath, roots)]
        source = os.path.join(self.folder, "src")
        if not os.path.exists(os.path.join(source, "__init__.py")):
            found.append(source)
        if self.manage is not None:
            found.append(os.path.dirname(self.manage))
        # The innermost root comes first: there `import app` means the nearest one.
        self.roots = sorted({root for root in found if os.path.isdir(root)}, key=self._order)
        # What an editable install has put there holds the project's modules under their own names.
        there = [path for path in map(os.path.realpath, sys.path) if is_below(path, *self.roots) and self.is_own(path)]
        known = dict.fromkeys([*map(os.path.realpath, paths), *there])
        self.paths = [path for path in known if os.path.isdir(path) and path not in self.roots]

    @property
    def outside(self) -> list[str]:
        """The roots that the project's folder does not hold."""
        return [root for root in self.roots if not is_below(root, self.folder)]

    def _order(self, root: str) -> tuple[bool, int, str]:
        return not is_below(root, self.folder), -root.count(os.sep), root

    def named(self, *names: str) -> list[str]:
        """The project's files of these names, those nearest to its folder first."""
        found = [file for file in self.files if os.path.basename(file) in names]
        return sorted(found, key=lambda file: (file.count(os.sep), file))

    def sources(self, below: str) -> Iterator[str]:
        """The Python files below a folder that may define functions."""
        known = self.files if below == self.folder else python_files(below, skip_top=False)
        return (file for file in known if _is_source(os.path.basename(file)))

    def left_alone(self) -> Iterator[str]:
        """Python files below the project's folder that ``sources`` leaves out because of their place or name."""
        seen = {file for file in self.files if _is_source(os.path.basename(file))}
        everything = python_files(self.folder, skip_top=False, skipped=frozenset({"node_modules", "site-packages"}))
        return (file for file in everything if file not in seen)

    def import_paths(self) -> list[str]:
        """For ``sys.path``, the first one first; roots that ``module_name`` has added are there too."""
        return [*self.roots, *self.paths]

    def module_name(self, path: str) -> str:
        """The name by which importing gives this file.

        A folder whose name is no identifier cannot be part of an import: it becomes a root, as it is for a script.

        Raises:
            ProjectError: every name it could have means another module.
        """
        own = self._own_root(path)
        if own is not None and own not in self.roots:
            self.roots.append(own)
        others = []
        for name in self._names(path):
            if name.partition(".")[0] in sys.stdlib_module_names:
                others.append(f"`{name}` is a module of Python's own")
            elif (found := self.locate(name)) == path or (found is None and _is_installed_module(name)):
                return name
            elif found is not None:
                others.append(f"`{name}` is {self.relative(found)}")
        raise ProjectError(
            f"{self.relative(path)} cannot be imported: {'; '.join(others) or 'no name leads to it'}; rename the file"
        )

    def _names(self, path: str) -> Iterator[str]:
        """Names it could have, the shortest first."""
        known = {root for root in self.import_paths() if is_below(path, root)}
        package = os.path.dirname(path)
        while os.path.exists(os.path.join(package, "__init__.py")):
            package = os.path.dirname(package)
        if package != os.path.dirname(path):
            known.add(package)
        names = (_dotted(os.path.relpath(path, root)) for root in sorted(known, key=len, reverse=True))
        return (name for name in names if name is not None)

    def _own_root(self, path: str) -> str | None:
        folder = os.path.dirname(path)
        while is_below(folder, self.folder) and folder != self.folder:
            if not os.path.basename(folder).isidentifier():
                return None if os.path.exists(os.path.join(folder, "__init__.py")) else folder
            folder = os.path.dirname(folder)
        return None

    def locate(self, name: str) -> str | None:
        """The file that importing ``name`` from the roots would load; None for none, and for a folder alone."""
        folders: Sequence[str] = self.import_paths()
        found = None
        for part in name.split("."):
            found, folders = _step(part, folders)
        return found

    def find(self, name: str) -> str | None:
        """The file or folder that a module's name or a path stands for."""
        dotted = name.replace(".", os.sep)
        candidates = [os.path.join(self.folder, name), os.path.join(self.folder, f"{name}.py")]
        candidates += [os.path.join(root, dotted) for root in self.roots]
        candidates += [os.path.join(root, f"{dotted}.py") for root in self.roots]
        for path in map(os.path.realpath, candidates):
            if os.path.exists(path) and any(is_below(path, root) for root in self.roots):
                return path
        return None

    def is_own(self, path: str | None) -> bool:
        """Whether a file is the user's, rather than of Python, of an installed package or of deferlite."""
        if path is None or not os.path.isabs(path) or _is_installed(path):
            return False
        # A project may lie below the interpreter's own folder.
        return is_below(path, self.folder) or not is_below(path, sys.prefix, sys.base_prefix)

    def relative(self, path: str) -> str:
        """The file as people know it: from the project's folder on."""
        real = os.path.realpath(path)
        return os.path.relpath(real, self.folder) if self.is_own(real) else path


def is_below(path: str, *folders: str) -> bool:
    """Whether it is one of the folders, or in one."""
    return any(path == folder or path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def _is_installed(path: str) -> bool:
    sdk = sys.modules.get("deferlite")
    kit = os.path.dirname(getattr(sdk, "__file__", None) or os.__file__)
    libraries = (os.path.dirname(os.__file__), os.path.dirname(__file__), kit)
    return is_below(path, *libraries) or "site-packages" in path or "dist-packages" in path


def _step(part: str, folders: Sequence[str]) -> tuple[str | None, list[str]]:
    """One part of a module's name, looked up as Python does: its file, and where its submodules are."""
    portions = []
    for folder in folders:
        path = os.path.join(folder, part)
        init = os.path.join(path, "__init__.py")
        if os.path.isfile(init):
            return init, [path]
        if os.path.isfile(path + ".py"):
            return path + ".py", []
        if os.path.isdir(path):
            portions.append(path)
    return None, portions


def _is_installed_module(name: str) -> bool:
    """Whether the interpreter knows a module without the project's roots: its package is installed, editable or not."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    found, folders = None, list(spec.submodule_search_locations or ()) if spec is not None else []
    if not rest:
        return bool(folders)
    for part in rest:
        found, folders = _step(part, folders)
    return found is not None


def _dotted(relative: str) -> str | None:
    parts = relative[: -len(".py")].split(os.sep)
    if any("." in part for part in parts):
        return None
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def python_files(folder: str, *, skip_top: bool, skipped: frozenset[str] = SKIPPED_FOLDERS) -> Iterator[str]:
    """Every Python file below a folder, those of a folder before those of its subfolders; links to folders, hidden
    folders and virtual environments are left alone."""
    waiting, top = [folder], skip_top
    while waiting:
        entries = _entries(waiting.pop())
        if not top and not VENV_MARKS.isdisjoint(entry.name for entry in entries):
            continue
        yield from (entry.path for entry in entries if entry.name.endswith(".py") and _is(entry, folder=False))
        inner = (e.path for e in entries if not _skips(e.name, skipped, top) and _is(e, folder=True))
        waiting += reversed(list(inner))
        top = False


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        print(f"{folder} is left out: {error.strerror}", file=sys.stderr)
        return []


def _is(entry: os.DirEntry[str], *, folder: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False) if folder else entry.is_file()
    except OSError:
        return False


def _skips(name: str, skipped: frozenset[str], top: bool) -> bool:
    if name.startswith(".") or name in skipped or name.endswith(".egg-info"):
        return True
    return top and name in SKIPPED_AT_THE_TOP


def _is_source(name: str) -> bool:
    if not name.endswith(".py") or name.startswith((".", "test_")) or "." in name[:-3]:
        return False
    return not name.endswith("_test.py") and name not in SKIPPED_FILES
