"""The published npm package @defer/client, unmodified, against a real server: 2.3.0 and 1.15.0."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import anyio
import pytest

from tests.support import missing

pytestmark = [pytest.mark.anyio, pytest.mark.needs("node")]

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


async def drive(folder: Path, script: str, endpoint: str, token: str) -> list[str]:
    environ = {"PATH": os.environ["PATH"], "DEFER_ENDPOINT": endpoint, "DEFER_TOKEN": token}
    with anyio.fail_after(120):
        done = await anyio.run_process(["node", script], cwd=folder, env=environ, check=False)
    assert done.returncode == 0, done.stderr.decode()
    steps: list[str] = json.loads(done.stdout.decode().splitlines()[-1])
    return steps


async def test_client_2(drives: Path, endpoint: str, token: str) -> None:
    assert await drive(drives, "drive-2.mjs", endpoint, token) == STEPS_2


async def test_client_1(drives: Path, endpoint: str, token: str) -> None:
    assert await drive(drives, "drive-1.mjs", endpoint, token) == STEPS_1


def test_the_packages_are_the_published_ones(drives: Path) -> None:
    for name, version in (("defer-client-1", "1.15.0"), ("defer-client-2", "2.3.0")):
        package = json.loads((drives / "node_modules" / name / "package.json").read_text())
        assert (package["name"], package["version"]) == ("@defer/client", version)
    lock = (SCRIPTS / "package-lock.json").read_text()
    assert '"resolved"' not in lock and lock.count('"integrity"') == 3
