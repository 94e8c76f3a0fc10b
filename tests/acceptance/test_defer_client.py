"""The published npm package @defer/client, unmodified, against a whole server: 2.3.0 and 1.15.0."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import missing

pytestmark = pytest.mark.needs("node")

SCRIPTS = Path(__file__).parent / "node"
STEPS_2 = [
    "enqueue",
    "delay",
    "metadata",
    "getExecution",
    "result",
    "cancel",
    "abort",
    "reschedule",
    "re-run",
    "list and every filter",
    "pages both ways",
    "attempts",
    "awaitResult",
]
STEPS_1 = [
    "enqueue",
    "delay",
    "metadata",
    "getExecution",
    "cancel",
    "abort",
    "reschedule",
    "tries",
    "awaitResult",
]


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts with both versions of the package installed beside them."""
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(SCRIPTS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    npm = shutil.which("npm")
    if npm is None:
        missing("npm")
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def drive(folder: Path, script: str, endpoint: str, token: str) -> list[str]:
    environ = {"PATH": os.environ["PATH"], "DEFER_ENDPOINT": endpoint, "DEFER_TOKEN": token}
    done = subprocess.run(["node", script], cwd=folder, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    steps: list[str] = json.loads(done.stdout.splitlines()[-1])
    return steps


def test_client_2(drives: Path, endpoint: str, token: str) -> None:
    assert drive(drives, "drive-2.mjs", endpoint, token) == STEPS_2


def test_client_1(drives: Path, endpoint: str, token: str) -> None:
    assert drive(drives, "drive-1.mjs", endpoint, token) == STEPS_1


def test_the_packages_are_the_published_ones(drives: Path) -> None:
    for name, version in (("defer-client-1", "1.15.0"), ("defer-client-2", "2.3.0")):
        package = json.loads((drives / "node_modules" / name / "package.json").read_text())
        assert (package["name"], package["version"]) == ("@defer/client", version)
    lock = (SCRIPTS / "package-lock.json").read_text()
    assert '"resolved"' not in lock and lock.count('"integrity"') == 3
