"""Builders: the server's own, a program, and another version of deferlite. They all keep the same contract."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import uv

import deferlite
from deferlite import __version__
from deferlite.builder import builders
from deferlite.builder.builders import Builder, OwnBuilder, ProgramBuilder
from deferlite.builder.canaries import Canaries, read_wanted
from deferlite.builder.layout import Layout
from deferlite.builder.program import make_runtimes
from deferlite.builder.protocol import PROTOCOL, BuildOrder, decode_event
from deferlite.builder.runtimes import Launch
from deferlite.model.build import Build, BuildState
from deferlite.model.errors import BuildError, DeferliteError, WorldError
from deferlite.model.function import Manifest
from deferlite.sandbox.levels import probe
from tests.services.builder_fixtures import Workshop, job, workshop
from tests.support import processes_of

pytestmark = pytest.mark.anyio
ROOT = Path(deferlite.__file__).parent.parent
OTHER = "9.9.1"


def copy_of_deferlite(folder: Path, version: str = OTHER) -> Path:
    """The sources of another version of this very project."""
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "deferlite", folder / "deferlite", ignore=left_out)
    for name in ("pyproject.toml", "README.md"):
        shutil.copyfile(ROOT / name, folder / name)
    for name in ("pyproject.toml", "deferlite/__init__.py"):
        text = (folder / name).read_text()
        assert f'"{__version__}"' in text
        (folder / name).write_text(text.replace(f'"{__version__}"', f'"{version}"', 1))
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source folder of another version, and beside it what all tests of this file share of a home's cache."""
    return copy_of_deferlite(tmp_path_factory.mktemp("other") / "deferlite")


def share_cache(home: Path, other: Path) -> None:
    """Installing a builder takes seconds: once for all tests."""
    for name in ("builders", "uv"):
        shared = other.parent / name
        shared.mkdir(exist_ok=True)
        (home / "cache").mkdir(parents=True, exist_ok=True)
        (home / "cache" / name).symlink_to(shared)


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.lines: list[str] = []
        self._told = anyio.Event()

    def say(self, text: str) -> None:
        self.line("system", text)

    def line(self, stream: str, text: str) -> None:
        self.lines.append(f"{stream}: {text}")
        self._told.set()

    async def step(self, state: BuildState) -> None:
        self.steps.append(state.value)

    async def until(self, line: str) -> None:
        with anyio.fail_after(60):
            while line not in self.lines:
                await self._told.wait()
                self._told = anyio.Event()


class Bench:
    """One builder, and a home for it."""

    def __init__(self, home: Path, builder: Builder, sandbox: str, bwrap: str | None) -> None:
        self.home = home
        self.builder = builder
        self.heard = Heard()
        self.folder = home / "builds" / "shop" / "b1"
        self._sandbox = sandbox, bwrap

    def order(self, files: Mapping[str, str], env: dict[str, str] | None = None, **settings: Any) -> BuildOrder:
        for name, text in files.items():
            path = self.folder / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return BuildOrder(
            id="b1",
            environment="shop",
            settings=settings,
            env=env or {},
            home=str(self.home),
            folder=str(self.folder),
            project=str(self.folder / "source"),
            hidden=(str(self.home),),
            sandbox=self._sandbox[0],
            bwrap=self._sandbox[1],
        )

    async def make(self, files: Mapping[str, str], env: dict[str, str] | None = None, **settings: Any) -> Manifest:
        async with AsyncExitStack() as stack:
            return await self.builder.make(self.order(files, env, **settings), self.heard, stack)

    def is_clean(self) -> bool:
        half_made = [
            path for path in (self.home / "cache/dependencies").glob("*") if not (path / "complete.json").exists()
        ]
        return not half_made and not (self.folder / "scratch").exists() and not processes_of(str(self.folder))


@pytest.fixture(params=["own", "program", "canary"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path, other: Path) -> AsyncIterator[Bench]:
    status = await probe("auto")
    home = tmp_path / "home"
    share_cache(home, other)
    async with AsyncExitStack() as stack:
        builder: Builder = OwnBuilder(make_runtimes(Layout(home)))
        if request.param == "program":
            argv = [sys.executable, "-m", "deferlite.builder"]
            builder = ProgramBuilder(argv, __version__, "program", "own")
        elif request.param == "canary":
            builder = await Canaries(Layout(home), status).find(str(other), Heard(), stack)
        yield Bench(home, builder, status.level.value, status.bwrap)


async def test_a_project_becomes_a_manifest(bench: Bench) -> None:
    prebuild = "echo out; echo err >&2; echo 'NAME = \"generated\"' > generated.py"
    manifest = await bench.make({"jobs.py": "import generated\n" + job()}, prebuild=prebuild)
    assert [one.name for one in manifest.functions] == ["job"]
    assert bench.heard.steps == ["installing", "generating", "compiling"]
    assert {"stdout: out", "stderr: err", "system: found 1: job"} <= set(bench.heard.lines)
    launch = msgspec.convert(manifest.launch, Launch)
    assert (bench.home / launch.venv / launch.executable).exists()
    assert bench.is_clean()


async def test_which_version_it_is(bench: Bench) -> None:
    assert bench.builder.version == (OTHER if "canary" in bench.builder.key else __version__)


async def test_a_wrong_project(bench: Bench) -> None:
    with pytest.raises(BuildError, match="SyntaxError") as caught:
        await bench.make({"jobs.py": "from deferlite import defer\ndef job(:\n"})
    assert "jobs.py, line 2" in str(caught.value)
    assert bench.is_clean()


async def test_a_failing_command_and_the_tail_of_what_it_said(bench: Bench) -> None:
    with pytest.raises(BuildError, match="exit status 7") as caught:
        await bench.make({"jobs.py": job()}, prebuild="echo too bad >&2; exit 7")
    first, *rest = str(caught.value).splitlines()
    assert "prebuild" in first and "too bad" in rest
    if isinstance(bench.builder, ProgramBuilder):
        assert f"deferlite {bench.builder.version}" in first


async def test_the_world_is_told_from_the_project(bench: Bench) -> None:
    with pytest.raises(WorldError, match="the disk is full"):
        await bench.make({"jobs.py": job()}, prebuild="echo 'write: No space left on device' >&2; exit 1")
    assert bench.is_clean()


async def test_variables_reach_the_project_and_no_command_line(bench: Bench) -> None:
    prebuild = 'echo "key $KEY"; while ! [ -e go ]; do sleep 0.02; done'
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: bench.make({"jobs.py": job()}, {"KEY": "hush-hush"}, prebuild=prebuild))
        await bench.heard.until("stdout: key hush-hush")
        assert not [command for command in processes_of("hush-hush").values() if "hush-hush" in command]
        (bench.folder / "source" / "go").touch()


async def test_settings_that_it_does_not_know(bench: Bench) -> None:
    await bench.make({"jobs.py": job()}, colour="green")
    assert any("does not know [build] colour" in line for line in bench.heard.lines)


async def test_a_level_of_the_sandbox_that_it_does_not_have(bench: Bench) -> None:
    order = msgspec.structs.replace(bench.order({"jobs.py": job()}), sandbox="castle")
    async with AsyncExitStack() as stack:
        with pytest.raises(BuildError, match='no sandbox level "castle"'):
            await bench.builder.make(order, bench.heard, stack)


@pytest.mark.parametrize("where", ["install", "prebuild"])
async def test_it_is_cancelled(bench: Bench, where: str) -> None:
    hang = {where: "echo hanging; (setsid sleep 600 &) ; sleep 600"}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: bench.make({"jobs.py": job()}, **hang))
        await bench.heard.until("stdout: hanging")
        tasks.cancel_scope.cancel()
    assert bench.is_clean()


def program(script: str) -> ProgramBuilder:
    """A builder that says what the script prints."""
    hello = f'import sys; print(\'{{"type": "hello", "version": "7.7", "protocol": {PROTOCOL}}}\', flush=True)\n'
    return ProgramBuilder([sys.executable, "-c", hello + script], "7.7", "fake", "7.7")


BROKEN = {
    "dies": ("import os; print('oh no', file=sys.stderr); sys.exit(3)", "ended with status 3", "oh no"),
    "is killed": ("import os; os.kill(os.getpid(), 9)", "killed by signal 9", "trying again may help"),
    "prints rubbish": ("print('hello world')", "not of protocol 1", "'hello world'"),
    "has a strange manifest": (
        'print(\'{"type": "made", "manifest": {"version": 2}}\')',
        "a manifest that this server",
        "cannot read",
    ),
    "makes what cannot be launched": (
        'print(\'{"type": "made", "manifest": {"runtime": "x", "interpreter": "", "modules": [], "functions": []}}\')',
        "a manifest that this server",
        "cannot read",
    ),
    "breaks inside": (
        'print(\'{"type": "failed", "kind": "internal", "message": "KeyError"}\')',
        "(internal)",
        "KeyError",
    ),
    "goes without a word": ("sys.stdout.close(); sys.exit(0)", "ended with status 0", ""),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_builder_that(fault: str, tmp_path: Path) -> None:
    script, *expected = BROKEN[fault]
    bench = Bench(tmp_path, program(script), "process", None)
    with pytest.raises(DeferliteError) as caught:
        await bench.make({"jobs.py": job()})
    said = str(caught.value)
    assert [part for part in [*expected, "[build] builder = '7.7'"] if part not in said] == [], said


async def test_a_builder_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builders, "HELLO_SECONDS", 0.3)
    silent = ProgramBuilder([sys.executable, "-c", "import time; time.sleep(600)"], "7.7", "fake", "7.7")
    with pytest.raises(BuildError, match=r"\(deferlite 7.7\) said nothing"):
        await Bench(tmp_path, silent, "process", None).make({"jobs.py": job()})


async def test_a_builder_that_does_not_mind_the_signal_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builders, "GRACE_SECONDS", 0.3)
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('x', flush=True); time.sleep(600)"
    with pytest.raises(BuildError, match="not of protocol"), anyio.fail_after(10):
        await Bench(tmp_path, program(stubborn), "process", None).make({"jobs.py": job()})
    assert not processes_of("SIG_IGN); print('x'")


async def test_events_that_nobody_knows_are_ignored(tmp_path: Path) -> None:
    script = (
        'print(\'{"type": "applause", "loud": true}\'); print(\'{"type": "failed", "kind": "world", "message": "m"}\')'
    )
    with pytest.raises(WorldError, match=r"^m \("):
        await Bench(tmp_path, program(script), "process", None).make({"jobs.py": job()})


async def test_a_server_refuses_a_protocol_that_is_newer(tmp_path: Path) -> None:
    newer = 'print(\'{"type": "hello", "version": "8", "protocol": 2}\')'
    builder = ProgramBuilder([sys.executable, "-c", newer], "8", "fake", "8")
    with pytest.raises(BuildError, match="speaks protocol 2 of builders, and this server speaks 1"):
        await Bench(tmp_path, builder, "process", None).make({"jobs.py": job()})


async def test_a_builder_refuses_a_protocol_that_is_newer(tmp_path: Path) -> None:
    builder = ProgramBuilder([sys.executable, "-m", "deferlite.builder"], __version__, "program", "own")
    bench = Bench(tmp_path, builder, "process", None)
    order = msgspec.structs.replace(bench.order({"jobs.py": job()}), protocol=PROTOCOL + 1)
    async with AsyncExitStack() as stack:
        with pytest.raises(BuildError, match=f"speaks protocol {PROTOCOL} of builders, and this server speaks 2"):
            await builder.make(order, bench.heard, stack)


def test_an_order_shows_no_secret() -> None:
    order = BuildOrder(id="1", environment="e", env={"K": "hush"}, home="", folder="", project="", sandbox="process")
    assert "hush" not in repr(order)


def test_unknown_fields_of_an_event_are_ignored() -> None:
    assert decode_event(b'{"type": "step", "state": "installing", "mood": "good"}') is not None


@pytest.fixture
async def shop(tmp_path: Path, other: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made, made.at_work():
        share_cache(tmp_path / "home", other)
        yield made


async def test_an_environment_is_built_by_a_canary(shop: Workshop, other: Path) -> None:
    repository = shop.repository({"jobs.py": job()})
    own = await shop.build(repository, "own")
    canary = await shop.build(repository, "canary", builder=str(other))
    assert (canary.state, canary.error) == (BuildState.SUCCEED, None)
    assert (own.builder, canary.builder) == (__version__, OTHER)
    assert f"builder deferlite {OTHER} (protocol 1)" in await shop.log(canary)
    assert (await shop.log(own)).splitlines()[0] == f"builder deferlite {__version__} (protocol 1)"
    assert (await shop.launch(canary)).modules == ("jobs",)


async def test_a_failing_build_says_which_builder_made_it(shop: Workshop, other: Path) -> None:
    good = await shop.build(shop.repository({"jobs.py": job()}))
    build = await shop.build(shop.repository({"main.py": ""}, "bad"), builder=str(other))
    assert build.error is not None and f"(deferlite {OTHER})" in build.error.splitlines()[0]
    assert await shop.live() == good.id


async def test_the_servers_own_version_is_its_own_builder(shop: Workshop) -> None:
    build = await shop.build(shop.repository({"jobs.py": job()}), builder=__version__)
    assert (build.error, build.builder) == (None, __version__)
    assert "installing the builder" not in await shop.log(build)


WRONG = {
    "no-such": "is neither a version nor a path",
    "/nowhere/deferlite": "neither a wheel nor a source folder",
    "./here": "is not a whole path",
    "0.0.99999": "installing it failed",
}


@pytest.mark.parametrize("name", WRONG)
async def test_builders_that_cannot_be_had(shop: Workshop, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", str(shop.tmp_path))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    repository = shop.repository({"jobs.py": job()})
    good = await shop.build(repository)
    build = await shop.build(repository, builder=name)
    assert build.error is not None
    assert f"[build] builder = '{name}'" in build.error and WRONG[name] in build.error
    assert await shop.live() == good.id
    assert not shop.folder(build).path.exists()
    assert all((path / "complete.json").exists() for path in shop.layout.builders.iterdir())


@pytest.mark.parametrize("where", ["install", "prebuild"])
async def test_a_canary_that_is_killed_leaves_nothing(shop: Workshop, other: Path, where: str) -> None:
    repository = shop.repository({"jobs.py": job()})
    good = await shop.build(repository)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"six @ http://127.0.0.1:{silent.getsockname()[1]}/six-1.17.0-py3-none-any.whl\n"
        files = {"jobs.py": job()} | ({"requirements.txt": address} if where == "install" else {})
        prebuild = "sleep 600" if where == "prebuild" else None
        bad = shop.repository(files, "bad")
        await shop.environment(bad, builder=str(other), prebuild=prebuild)
        build = await shop.request(bad.git("rev-parse", "HEAD"))
        await shop.eventually(lambda: says(shop, build, "$ "))
        (canary,) = [pid for pid, said in processes_of(str(shop.tmp_path)).items() if "deferlite.builder" in said]
        os.kill(canary, signal.SIGKILL)
        build = await shop.ended(build)
    assert build.error is not None and f"(deferlite {OTHER}) was killed by signal 9" in build.error
    assert "trying again may help" in build.error
    assert await shop.live() == good.id
    assert not shop.folder(build).path.exists() and not processes_of(build.id)
    assert all((path / "complete.json").exists() for path in shop.layout.all_dependencies.iterdir())


async def says(shop: Workshop, build: Build, text: str) -> bool:
    return text in await shop.log(build)


async def test_a_version_comes_from_the_package_index(
    shop: Workshop, other: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path_factory.mktemp("wheels")
    command = [uv.find_uv_bin(), "build", "--quiet", "--wheel", "--out-dir", str(wheels), str(other)]
    await anyio.run_process(command)
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    repository = shop.repository({"jobs.py": job()})
    build = await shop.build(repository, builder=OTHER)
    assert (build.state, build.error, build.builder) == (BuildState.SUCCEED, None, OTHER)
    again = await shop.build(repository, "second", builder=OTHER)
    assert "installing the builder" not in await shop.log(again)
    # The wheel itself is a path, and another builder: its content is not that of the index.
    by_path = await shop.build(repository, "third", builder=str(next(wheels.glob("*.whl"))))
    assert (by_path.error, by_path.builder) == (None, OTHER)


def test_an_edited_folder_is_another_builder(other: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(other, copy)
    before = read_wanted(str(copy)).key
    assert read_wanted(str(copy)).key == before
    (copy / "tests").mkdir()
    assert read_wanted(str(copy)).key == before
    (copy / "deferlite" / "new.py").touch()
    assert read_wanted(str(copy)).key != before
