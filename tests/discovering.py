"""Discovery (runner/finding.py) run over files of a test as a build does it, without the box."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import deferlite

PACKAGE = Path(deferlite.__file__).parent
RUN = PACKAGE / "runner" / "run.py"
JOB = "from deferlite import defer\n\n@defer\ndef {name}(): ...\n"


def job(name: str = "job") -> str:
    return JOB.format(name=name)


class Discovery:
    """Call it with files: it writes them, discovers over them, and returns the answer.

    ``directory`` is the project's folder below the repository, ``roots`` and ``paths`` are relative to the repository.
    """

    def __init__(self, folder: Path, interpreter: str = sys.executable) -> None:
        self.repository = folder / "repository"
        self._folder = folder
        self.interpreter = interpreter

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def __call__(
        self,
        files: Mapping[str, str | bytes],
        functions: Sequence[str] = (),
        *,
        directory: str = ".",
        roots: Sequence[str] = (),
        paths: Sequence[str] = (),
        patience: float | None = None,
        **env: str,
    ) -> dict[str, Any]:
        self.write(files)
        project = self.repository / directory
        request, answer = self._folder / "request.json", self._folder / "answer.json"
        asked = {"project": str(project), "functions": list(functions), "output": str(answer)}
        asked |= {"roots": [str(self.repository / one) for one in roots]} if roots else {}
        asked |= {"paths": [str(self.repository / one) for one in paths]} if paths else {}
        asked |= {"patience": patience} if patience else {}
        request.write_text(json.dumps(asked))
        answer.unlink(missing_ok=True)
        variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE.parent), **env}
        done = subprocess.run(
            [self.interpreter, str(RUN), "--discover", str(request)],
            cwd=project,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return {"output": done.stdout + done.stderr, **json.loads(answer.read_text())}

    def import_paths(self, answer: Mapping[str, Any], directory: str = ".") -> tuple[Path, ...]:
        """What a launch plan says of the answer."""
        project = self.repository / directory
        return tuple(Path(os.path.normpath(project / path)) for path in answer["import_paths"])


def names(answer: Mapping[str, Any]) -> list[str]:
    assert "error" not in answer, answer["error"]
    return [function["name"] for function in answer["functions"]]


def modules(answer: Mapping[str, Any]) -> list[str]:
    """The module of each function."""
    assert "error" not in answer, answer["error"]
    return [function["module"] for function in answer["functions"]]
