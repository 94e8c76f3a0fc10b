"""What an application gets by ``pip install deferlite``: the SDK and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from tests.support import clean_environ

PROJECT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment with deferlite alone."""
    folder = tmp_path_factory.mktemp("bare")
    source = folder / "source"
    shutil.copytree(PROJECT, source, ignore=shutil.ignore_patterns(".*", "*.egg-info", "build"))
    venv.create(folder / "venv", with_pip=True)
    command = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source]
    subprocess.run(command, check=True, env=clean_environ())
    return folder / "venv" / "bin"


def test_no_other_package_comes_along(bare: Path) -> None:
    listed = subprocess.run([bare / "python", "-m", "pip", "list", "--format=json"], check=True, capture_output=True)
    assert {row["name"] for row in json.loads(listed.stdout)} - {"pip", "setuptools"} == {"deferlite"}


def test_a_function_runs_in_process(bare: Path) -> None:
    code = "from deferlite import await_result, defer\n@defer\ndef f(a): return a + 1\nprint(await_result(f)(1))"
    done = subprocess.run([bare / "python", "-c", code], capture_output=True, text=True, env=clean_environ())
    assert (done.stdout, done.stderr) == ("2\n", "")


@pytest.mark.parametrize("command", ["serve", "demo", "environments"])
def test_the_command_line_says_how_to_get_the_server(bare: Path, command: str) -> None:
    done = subprocess.run([bare / "deferlite", command], capture_output=True, text=True, env=clean_environ())
    assert done.returncode == 2
    assert 'pip install "deferlite[server]"' in done.stderr
