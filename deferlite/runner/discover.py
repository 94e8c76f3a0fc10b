"""Finds the background functions of a project. Runs inside the project's interpreter, by path, once per build.

The protocol. ``python discover.py REQUEST`` with the project's folder as working directory; REQUEST is a JSON file:

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

import os
import sys
from types import ModuleType


def main(request: str) -> None:
    # As in run.py: found by path, and forgotten again before anything of the project's is imported.
    folder = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0]) == folder:  # Not with PYTHONSAFEPATH.
        del sys.path[0]
    for name, path in (("deferlite", folder + "/.."), ("deferlite.runner", folder)):
        package = ModuleType(name)
        package.__path__ = [path]
        sys.modules[name] = package
    from deferlite.runner import finding

    for name in [name for name in sys.modules if name.partition(".")[0] == "deferlite"]:
        del sys.modules[name]
    # multiprocessing would import the main module again in its own children.
    sys.modules["__main__"] = ModuleType("__main__")
    sys.argv = ["deferlite"]
    finding.answer_request(request)


if __name__ == "__main__":
    main(sys.argv[-1])
