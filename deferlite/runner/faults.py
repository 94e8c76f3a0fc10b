"""What went wrong with importing the project, in words for people: what, where in the user's files, and the cure."""

from __future__ import annotations

import linecache
import os
import sys
from types import CodeType, TracebackType

from deferlite.runner.layout import Layout
from deferlite.runner.marks import syntax_fault

GUARD = 'if __name__ == "__main__":'

_PACKAGES = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "distutils": "setuptools",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "PyMuPDF",
    "jwt": "PyJWT",
    "magic": "python-magic",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyOpenSSL",
    "PIL": "Pillow",
    "pkg_resources": "setuptools",
    "rest_framework": "djangorestframework",
    "serial": "pyserial",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "yaml": "PyYAML",
}
"""Packages whose name is another than that of what they bring."""

_DECLARED_IN = (
    ("uv.lock", "pyproject.toml"),
    ("poetry.lock", "pyproject.toml"),
    ("pdm.lock", "pyproject.toml"),
    ("Pipfile", "Pipfile"),
    ("requirements.in", "requirements.in"),
    ("requirements.txt", "requirements.txt"),
    ("pyproject.toml", "pyproject.toml"),
    ("setup.cfg", "setup.cfg"),
    ("setup.py", "setup.py"),
)


def fault(doing: str, error: BaseException, layout: Layout) -> str:
    """What has gone wrong, where in the user's files, and what to do about it."""
    if isinstance(error, SyntaxError):
        return f"cannot {doing}: {syntax_fault(error, error.filename or '?', layout)}"
    words = _words(error)
    frames = _own_frames(error.__traceback__, layout)
    where = place(frames[-1][0].co_filename, frames[-1][1], layout) if frames else ""
    what = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return f"cannot {doing}: {what}{where}{_cure(error, words, layout)}"


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return "(it cannot say what is wrong: its __str__ fails)"


def place(file: str, line: int | None, layout: Layout) -> str:
    return f" ({layout.relative(file)}, line {line or 0})"


def _cure(error: BaseException, words: str, layout: Layout) -> str:
    if isinstance(error, SystemExit):
        return f"; code that runs or exits belongs under `{GUARD}`"
    if isinstance(error, EOFError) and "reading a line" in words:
        return f"; importing a module must not ask: input() belongs into a function, or under `{GUARD}`"
    if isinstance(error, KeyError) and _is_of_environ(error.__traceback__):
        return "; set that variable under [env] in the environment file"
    if isinstance(error, (ImportError, AttributeError)):
        if "partially initialized module" in words:
            return "; modules import each other: move one of the imports into the function that needs it"
        hides = _hiding(layout)
        if hides is not None:
            return f"; {hides} hides Python's own module of that name: rename it"
    if type(error).__name__ == "PackageNotFoundError":
        return "; nothing that is installed has that name: compare it with the one in pyproject.toml"
    if isinstance(error, ImportError) and error.name in sys.stdlib_module_names:
        return f"; this is Python {sys.version.split()[0]}: [build] python or .python-version asks for another"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing(error.name, layout)
    if "relative import" in words:
        return '; its folder is a root here, not a package: import in full, or name the folder above as "directory"'
    if type(error).__name__ == "ImproperlyConfigured" and "DJANGO_SETTINGS_MODULE" in words:
        return "; name the settings module in manage.py, or as DJANGO_SETTINGS_MODULE in [env]"
    return ""


def _is_of_environ(trace: TracebackType | None) -> bool:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame if trace is not None else None
    return frame is not None and (frame.f_globals.get("__name__"), frame.f_code.co_name) == ("os", "__getitem__")


def _hiding(layout: Layout) -> str | None:
    """A module of the project that was loaded instead of Python's own."""
    for name in sys.stdlib_module_names & sys.modules.keys():
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and layout.is_own(file):
            return layout.relative(file)
    return None


def _missing(name: str, layout: Layout) -> str:
    top = name.partition(".")[0]
    for root in layout.import_paths():
        for own in (os.path.join(root, top), os.path.join(root, f"{top}.py")):
            if os.path.exists(own):
                return f"; {layout.relative(own)} is there, {name} is not" if name != top else ""
    elsewhere = next((f for f in layout.files if f.endswith((f"/{top}.py", f"/{top}/__init__.py"))), None)
    if elsewhere is not None:
        return f"; {layout.relative(elsewhere)} is there, but its folder is none that modules are imported from"
    if f"{os.environ.get('DJANGO_SETTINGS_MODULE', '')}.".startswith(f"{name}."):
        return "; name the settings module that is there, in that place or as DJANGO_SETTINGS_MODULE in [env]"
    package = f"{_PACKAGES[top]} (it brings {top})" if top in _PACKAGES else f"the package that has {top}"
    known = (file for mark, file in _DECLARED_IN if os.path.exists(os.path.join(layout.folder, mark)))
    where = next(known, None) or _script(layout) or "a requirements.txt"
    return f"; add {package} to the project's dependencies, in {where}"


def _script(layout: Layout) -> str | None:
    """The script that says in itself what it depends on."""
    for file in layout.files:
        if os.path.dirname(file) == layout.folder:
            with open(file, "rb") as source:
                if b"\n# /// script" in b"\n" + source.read(1 << 16):
                    return layout.relative(file)
    return None


def _own_frames(trace: TracebackType | None, layout: Layout) -> list[tuple[CodeType, int]]:
    frames = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if layout.is_own(code.co_filename):
            frames.append((code, trace.tb_lineno))
        trace = trace.tb_next
    return frames


def print_own_frames(error: BaseException, layout: Layout) -> None:
    """The traceback for the log, without what is not the user's."""
    lines = ["Traceback (most recent call last):"]
    for code, line in _own_frames(error.__traceback__, layout):
        source = linecache.getline(code.co_filename, line).strip()
        lines += [
            f'  File "{code.co_filename}", line {line}, in {code.co_name}',
            *([f"    {source}"] if source else []),
        ]
    print("\n".join([*lines, f"{type(error).__name__}: {_words(error)}"]), file=sys.stderr)
