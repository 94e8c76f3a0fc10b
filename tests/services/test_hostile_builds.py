"""Code of a project that means harm while it is built: what it cannot reach, and what it cannot break."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deferlite.builder import builders
from deferlite.builder.layout import remove_tree
from deferlite.builder.plan import TreeFiles
from deferlite.builder.protocol import PROTOCOL, BuildOrder
from deferlite.builder.runtimes import Launch
from deferlite.builder.runtimes.manifest import check_launch, read_found
from deferlite.builder.runtimes.python_plan import plan_python
from deferlite.model.build import BuildState
from deferlite.model.environment import BuildSettings
from deferlite.model.errors import BuildError
from deferlite.sandbox.box import Box
from deferlite.sandbox.launch import LaunchPlan
from deferlite.sandbox.process import run
from deferlite.sandbox.runner import runner_box
from tests.services.builder_fixtures import Workshop, job, workshop
from tests.support import processes_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made, made.at_work():
        yield made


def package(body: str, name: str = "evil") -> dict[str, str]:
    """A distribution in the project's tree, whose ``setup.py`` runs ``body`` when it is installed."""
    setup = f"from setuptools import setup\n{body}\nsetup(name={name!r}, version='1', py_modules=[])\n"
    return {f"{name}/setup.py": setup, "jobs.py": job(), "requirements.txt": f"./{name}\n"}


# What lies where code of the project could write leads the server nowhere.


def test_where_an_interpreters_link_leads_is_not_shown(tmp_path: Path) -> None:
    """An install may change the link, such that it means one thing inside of the box and another one outside."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(tmp_path / "secrets" / "inner" / "python")
    box = runner_box(LaunchPlan(interpreter=python, project=tmp_path / "project", modules=()), tmp_path / "scratch")
    assert not [path for path in box.read_only if path.is_relative_to(tmp_path / "secrets")]


@pytest.mark.needs("bwrap")
async def test_a_command_that_has_ended_has_left_no_process(shop: Workshop) -> None:
    """Not even one that left the session and closed its output: the server reads and changes the tree after it."""
    fork = "import os\nfor _ in range(60):\n    if os.fork() == 0:\n        os.setsid(); os.closerange(0, 99)\n"
    fork += "        while True: os.stat('/')\n"
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "MARK": str(shop.tmp_path)}
    box = Box(writable=(shop.tmp_path,), read_only=(), cwd=shop.tmp_path, env=env)
    for _ in range(3):
        argv = ["python3", "-c", fork]
        done = await run(argv, cwd=shop.tmp_path, env=env, status=shop.status, box=box, timeout=None)
        left = processes_of(str(shop.tmp_path))
        assert (done.returncode, left) == (0, {})


DEEP = "import os\nfor _ in range(1500):\n    os.mkdir('d'); os.chdir('d')\n"


@pytest.mark.parametrize("then", ["exit 1", "true"])
async def test_a_tree_deeper_than_any_path(shop: Workshop, then: str) -> None:
    good = await shop.build(shop.repository({"jobs.py": job()}))
    deep = shop.repository({"jobs.py": job(), "deep.py": DEEP}, "deep")
    build = await shop.build(deep, prebuild=f"python deep.py; {then}")
    assert build.finished_at is not None
    if then == "exit 1":
        assert build.state is BuildState.FAILED and "exit status 1" in (build.error or "")
        assert await shop.live() == good.id
    else:
        assert (build.state, build.error) == (BuildState.SUCCEED, None)
        # What removes the folders of old tests cannot.
        await remove_tree(shop.folder(build).path)
    assert not shop.folder(build).path.exists()


# What one environment installs is not what another one gets.

POISON = """
import glob, os
for path in glob.glob(os.environ["UV_CACHE_DIR"] + "/archive-v0/*/six.py") + glob.glob(
    os.environ["VIRTUAL_ENV"] + "/lib/python3*/site-packages"
):
    if path.endswith(".py"):
        os.unlink(path)
    else:
        path += "/poison.py"
    with open(path, "w") as file:
        file.write("POISONED = True")
"""
USES_SIX = "import importlib.util\nimport six\nassert not hasattr(six, 'POISONED'), 'poisoned'\n"
USES_SIX += "assert importlib.util.find_spec('poison') is None, 'poisoned'\n" + job()
CLEAN = {"requirements.txt": "six==1.17.0\n", "jobs.py": USES_SIX}


async def test_a_package_cache_that_was_poisoned_serves_no_other_environment(shop: Workshop) -> None:
    files = package(POISON)
    files["requirements.txt"] = "six==1.17.0\n./evil\n"
    evil = shop.repository(files, "evil")
    assert (await shop.build(evil, "evil")).error is None
    evil.commit("innocent", {"requirements.txt": CLEAN["requirements.txt"]})
    assert (await shop.build(evil, "evil")).error is None
    good = await shop.build(shop.repository(CLEAN), "good")
    assert good.error is None


async def test_a_project_that_runs_while_its_dependencies_are_installed_changes_its_own(shop: Workshop) -> None:
    files = CLEAN | {
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "shop"\nversion = "1"\ndynamic = ["dependencies"]\n'
        '[tool.setuptools]\npy-modules = []\n[tool.setuptools.dynamic.dependencies]\nfile = "six.txt"\n',
        "six.txt": "six==1.17.0\n",
    }
    del files["requirements.txt"]
    evil = files | {"setup.py": f"{POISON}\nfrom setuptools import setup\nsetup()\n", "jobs.py": job()}
    assert (await shop.build(shop.repository(evil, "evil"), "evil")).error is None
    good = await shop.build(shop.repository(files), "good")
    assert good.error is None
    again = await shop.build(shop.repository(files, "again"), "good")
    assert "dependencies are unchanged" in await shop.log(again)


async def test_a_project_that_is_built_beside_shared_dependencies_does_not_change_them(shop: Workshop) -> None:
    table = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    table += '[project]\nname = "own"\nversion = "1"\n[tool.setuptools]\npy-modules = []\n'
    setup = f"{POISON}\nfrom setuptools import setup\nsetup(ext_modules=[])\n"
    evil = CLEAN | {"pyproject.toml": table, "setup.py": setup, "jobs.py": job()}
    await shop.build(shop.repository(evil, "evil"), "evil")
    good = await shop.build(shop.repository(CLEAN), "good")
    assert good.error is None


# What a project says is read with care.

DEEP_JSON = "[" * 100_000 + "]" * 100_000
ANSWERS = {
    "deep": '{"functions": [{"name": "f", "metadata": {"a": ' + DEEP_JSON + "}}]}",
    "not text": b'{"error": "\xff"}',
    "a string": '"x"',
    "huge numbers": '{"functions": [{"name": "f", "module": "m", "attribute": "f", "is_async": false, "line": 1e999}]}',
    "an endless error": '{"error": "' + "x" * 1_000_000 + '"}',
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_is_none(tmp_path: Path, answer: str) -> None:
    said = ANSWERS[answer]
    (tmp_path / "answer").write_bytes(said.encode() if isinstance(said, str) else said)
    with pytest.raises(BuildError) as caught:
        read_found(tmp_path / "answer")
    assert len(str(caught.value)) < 20_000


OUTSIDE = ({"venv": "../../etc"}, {"venv": "/etc"}, {"project": "../x"}, {"executable": "../../bin/sh"})


@pytest.mark.parametrize("change", [*OUTSIDE, {"import_paths": ["../.."]}], ids=str)
def test_a_launch_that_leads_out_of_the_build(change: dict[str, Any]) -> None:
    good = {"venv": "cache/v", "executable": "bin/python", "project": "source", "import_paths": ["."]}
    check_launch(msgspec.convert(good, Launch))
    with pytest.raises(BuildError, match="leads out"):
        check_launch(msgspec.convert(good | change, Launch))


NESTED = "a = " + "[" * 100_000
PROJECTS = {
    "deep toml": {"pyproject.toml": NESTED},
    "deep json": {"Pipfile": "", "Pipfile.lock": '{"a": ' + DEEP_JSON + "}"},
    "deep setup.py": {"setup.py": "setup(name=" + "-" * 50_000 + "1)"},
    "a name with a zero": {"requirements.txt": "-r a\0b\n"},
    "a name without end": {"requirements.txt": "-r " + "x" * 10_000 + "\n"},
    "a server's file": {"requirements.txt": "-r /etc/passwd\n"},
    "lines without end": {"requirements.txt": "\\\n" * 400_000 + "-r none.txt\n"},
    "blocks without end": {"jobs.py": "# deferlite\n" + "# /// script\n" * 40_000, "requirements.txt": "-r none.txt"},
    "an interpreter of its own": {".python-version": "./python\n", "requirements.txt": "-r none.txt"},
    "a wish without end": {"pyproject.toml": f'[project]\nname = "x"\nrequires-python = "{">=3.10," * 200_000}"\n'},
}


@pytest.mark.parametrize("files", PROJECTS)
def test_a_project_that_is_hard_to_read(tmp_path: Path, files: str) -> None:
    """A plan is made in the server's process: it fails with what to mend, and soon."""
    for name, text in PROJECTS[files].items():
        (tmp_path / name).write_text(text)
    began = time.process_time()
    try:
        plan_python(TreeFiles(tmp_path, tmp_path), BuildSettings())
    except BuildError as error:
        assert len(str(error)) < 20_000
    assert time.process_time() - began < 5


async def test_a_builder_that_floods_ends_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builders, "LONGEST_EVENT", 100_000)
    hello = f'{{"type": "hello", "version": "1", "protocol": {PROTOCOL}}}'
    order = BuildOrder(id="1", environment="e", home=str(tmp_path), folder="/", project="/", sandbox="process")
    for script in (f"print('{hello}'); print('x' * 10_000_000)", "print('[' * 90_000)", 'print(\'{"type": "step"}\')'):
        builder = builders.ProgramBuilder([sys.executable, "-c", script], "1", "fake", "1")
        async with AsyncExitStack() as stack:
            with pytest.raises(BuildError, match=r"\[build\] builder = '1'"):
                await builder.make(order, Journalist(), stack)


class Journalist:
    """Hears, and forgets."""

    def say(self, text: str) -> None: ...

    def line(self, stream: str, text: str) -> None: ...

    async def step(self, state: BuildState) -> None: ...
