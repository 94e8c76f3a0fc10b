"""Puts what building a project made beside its sources. Runs inside the project's interpreter, by path.

``python completing.py BUILT ROOT…``: BUILT is where the project was installed as a distribution, each ROOT a folder
that its modules are imported from. A package that lies in a root hides the installed one, so whatever the installed
one has and it has not, such as compiled extensions, is copied into it. Modules and packages that no root has stay
where they are: BUILT is on the import path too. Python 3.10 and later, standard library only.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

_LEFT = ("__pycache__", "bin")


def complete(built: str, roots: list[str]) -> Iterator[str]:
    """Copy; yields what was copied, relative to its root."""
    for package in sorted(os.listdir(built)):
        root = next((root for root in roots if os.path.isdir(os.path.join(root, package))), None)
        if root is None or package in _LEFT or package.endswith(".dist-info"):
            continue
        for folder, folders, files in os.walk(os.path.join(built, package)):
            folders[:] = [one for one in folders if one not in _LEFT]
            here = os.path.join(root, os.path.relpath(folder, built))
            for name in files:
                target = os.path.join(here, name)
                if not os.path.lexists(target):
                    os.makedirs(here, exist_ok=True)
                    shutil.copy2(os.path.join(folder, name), target)
                    yield os.path.relpath(target, root)


if __name__ == "__main__":
    for copied in complete(sys.argv[1], sys.argv[2:]):
        print("built:", copied)
