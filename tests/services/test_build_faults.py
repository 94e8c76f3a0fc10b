"""Ways to break a build. Each ends in a clear message; the live build serves throughout, and nothing is left."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
import uv

from deferlite.builder.runtimes.python import PythonRuntime
from deferlite.builder.sources import Sources
from deferlite.builder.workspace import expect
from deferlite.model.build import Build, BuildState
from deferlite.model.errors import BuildError, DeferliteError, WorldError
from deferlite.sandbox.process import Completed
from tests.services.builder_fixtures import Workshop, job, workshop
from tests.support import Repository, Server, processes_of, until_found

pytestmark = pytest.mark.anyio
PROJECT = '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["six"]\n'
HANG = "echo hanging; sleep 600"
HANGING_JOB = "import time\nprint('hanging')\ntime.sleep(600)\n" + job()


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to break a build, and what is said then."""

    says: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=lambda: JOBS)
    settings: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[Workshop, Repository], None] | None = None
    """Done to the commit's repository before the build is asked for; what it commits is built."""
    after: Callable[[Workshop, Repository], None] | None = None
    """Done to it when the commit to build is known."""
    meanwhile: Callable[[Workshop, Build], Awaitable[None]] | None = None


def lock(project: Path) -> None:
    subprocess.run([uv.find_uv_bin(), "lock", "--quiet"], cwd=project, check=True)


def stale_lock(shop: Workshop, repository: Repository) -> None:
    lock(repository.path)
    repository.commit("a new dependency", {"pyproject.toml": PROJECT.replace('"six"', '"six", "toml"')})


def lock_without_an_entry(shop: Workshop, repository: Repository) -> None:
    lock(repository.path)
    text = (repository.path / "uv.lock").read_text()
    head, *packages = text.split("[[package]]")
    kept = [package for package in packages if 'name = "six"' not in package.split("dependencies")[0]]
    repository.commit("an entry less", {"uv.lock": "[[package]]".join([head, *kept])})


def link_out(shop: Workshop, repository: Repository) -> None:
    (repository.path / "out").symlink_to("/etc")
    repository.commit("a link", {})


def forget_the_commit(shop: Workshop, repository: Repository) -> None:
    """As a forced push does, in the end."""
    repository.git("commit", "--quiet", "--amend", "--message=another")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--quiet", "--prune=now")


def delete_the_branch(shop: Workshop, repository: Repository) -> None:
    repository.git("checkout", "--quiet", "--orphan", "other")
    repository.git("commit", "--quiet", "--allow-empty", "--message=another")
    repository.git("branch", "--quiet", "-D", "main")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--quiet", "--prune=now")


def remove_the_repository(shop: Workshop, repository: Repository) -> None:
    repository.path.rename(repository.path.with_name("moved"))


async def hanging(shop: Workshop, build: Build) -> None:
    async def reached() -> bool:
        return "\nhanging" in await shop.log(build)

    await shop.eventually(reached)


def kill(program: str) -> Callable[[Workshop, Build], Awaitable[None]]:
    """``kill -9`` to the build's process of that name, as soon as it hangs."""

    async def act(shop: Workshop, build: Build) -> None:
        await hanging(shop, build)
        os.kill(await until_running(program, build), signal.SIGKILL)

    return act


async def until_running(program: str, build: Build, word: str = "") -> int:
    """The newest of them with ``word`` on its command line: a box is a chain of processes."""

    def running() -> list[int]:
        named = ((pid, command.split("\0")) for pid, command in processes_of(build.id).items())
        return [pid for pid, words in named if Path(words[0]).name.startswith(program) and (not word or word in words)]

    return max(await anyio.to_thread.run_sync(until_found, running))


async def cancel(shop: Workshop, build: Build) -> None:
    await hanging(shop, build)
    with anyio.fail_after(5):
        await shop.store.builds.cancel(build.id)
        await shop.ended(build)


async def overtake(shop: Workshop, build: Build) -> None:
    await hanging(shop, build)
    await shop.request(build.commit)


JOBS = {"jobs.py": job()}
SIX = {"jobs.py": job(), "requirements.txt": "six\n"}
BACKEND = {
    "requirements.txt": "./broken\n",
    "jobs.py": job(),
    "broken/pyproject.toml": '[project]\nname = "broken"\nversion = "1"\n'
    '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    "broken/backend.py": "def build_wheel(*_, **__):\n    raise RuntimeError('cc is not there')\n",
}


def cron(expression: str) -> dict[str, str]:
    return {"jobs.py": f"from deferlite import defer\n\n@defer.cron({expression!r})\ndef job(): ...\n"}


def module(body: str) -> dict[str, str]:
    return {"jobs.py": f"from deferlite import defer\n{body}\n"}


FAULTS: dict[str, Fault] = {
    # The project's dependencies.
    "a stale lock": Fault(
        files={"pyproject.toml": PROJECT, **JOBS}, before=stale_lock, says=("run `uv lock` and commit uv.lock",)
    ),
    "a missing lock entry": Fault(
        files={"pyproject.toml": PROJECT, **JOBS}, before=lock_without_an_entry, says=("uv.lock",)
    ),
    "a missing package": Fault(
        files={**JOBS, "requirements.txt": "six==0.0.99999\n"}, says=("uv pip", "six==0.0.99999")
    ),
    "a missing include": Fault(files={**JOBS, "requirements.txt": "-r more.txt\n"}, says=("line 1", "more.txt")),
    "a package whose build fails": Fault(files=BACKEND, says=("failed", "cc is not there")),
    "a wrong hash": Fault(
        files={**JOBS, "requirements.txt": f"six==1.17.0 --hash=sha256:{'0' * 64}\n"}, says=("failed", "ash mismatch")
    ),
    "a wrong pyproject": Fault(files={**JOBS, "pyproject.toml": "[project\n"}, says=("pyproject.toml is not TOML",)),
    "a failing install": Fault(settings={"install": "nosuchcommand"}, says=("`nosuchcommand` failed", "not found")),
    "an install that fills the disk": Fault(
        settings={"install": "cat /etc/passwd > /dev/full"}, says=("failed", "the disk is full", "deferlite build")
    ),
    "an index out of reach": Fault(
        files=SIX,
        settings={"env": {"UV_INDEX_URL": "http://127.0.0.1:1/simple", "UV_HTTP_RETRIES": "0"}},
        says=("failed", "does not answer; trying again may help"),
    ),
    # Its code.
    "an import error": Fault(
        files={"shop/jobs.py": "from deferlite import defer\n\nimport nosuchthing\n"},
        says=("cannot import shop.jobs", "nosuchthing", "shop/jobs.py, line 3"),
    ),
    "a syntax error": Fault(files=module("def job(:"), says=("SyntaxError", "jobs.py, line 2")),
    "two of one name": Fault(files={"a.py": job(), "b.py": job()}, says=('named "job"', "a.py", "b.py")),
    "a bad cron": Fault(files=cron("61 * * * *"), says=("jobs.py", "line 3", "61 * * * *")),
    "a bad option": Fault(files=module("@defer(concurrency=0)\ndef job(): ..."), says=("jobs.py", "concurrency")),
    "no functions": Fault(files={"main.py": "print('hi')\n"}, says=("no background functions", "@defer")),
    "an exit while importing": Fault(
        files=module("import os\nos._exit(4)"), says=("looking for the background functions", "4")
    ),
    "a kill while importing": Fault(
        files=module("import os\nos.kill(os.getpid(), 9)"), says=("looking for the background functions",)
    ),
    "a crash while importing": Fault(
        files=module("import os\nos.kill(os.getpid(), 11)"), says=("looking for the background functions",)
    ),
    "SystemExit while importing": Fault(files=module("raise SystemExit('stop here')"), says=("jobs",)),
    "much output while importing": Fault(
        files=module("for _ in range(100): print('x' * 1000_000)\nimport nosuchthing"), says=("nosuchthing",)
    ),
    # Its commands.
    "a failing prebuild": Fault(
        settings={"prebuild": "echo first; echo too bad >&2; exit 7"}, says=("prebuild", "exit status 7", "too bad")
    ),
    "a prebuild that is too slow": Fault(
        settings={"timeout": 0.8, "prebuild": HANG}, says=("longer than 0.8 s", "[build] timeout")
    ),
    "a prebuild that fills the log": Fault(
        settings={"prebuild": "yes x | head -n 70000; echo the end; exit 3"}, says=("exit status 3", "the end")
    ),
    "a prebuild that deletes the tree": Fault(
        settings={"prebuild": "rm -rf ./* .??*"}, says=("no background functions",)
    ),
    "a prebuild that deletes the project": Fault(
        files={"app/jobs.py": job(), "other": ""},
        settings={"directory": "app", "prebuild": 'rm -rf "$PWD"'},
        says=("prebuild", "has removed the project's folder"),
    ),
    "a prebuild that leaves a daemon": Fault(
        settings={"prebuild": "setsid sh -c 'sleep 600; : '$HOME & exit 5"}, says=("exit status 5",)
    ),
    # Its settings.
    "a missing folder": Fault(
        files={"apps/web/jobs.py": job()}, settings={"directory": "apps/api"}, says=("apps/api", "folders are: apps")
    ),
    "a folder outside": Fault(settings={"directory": "../.."}, says=("leads out of the repository",)),
    "a link out of the tree": Fault(
        before=link_out, settings={"directory": "out"}, says=("leads out of the repository",)
    ),
    "a Python that is too old": Fault(settings={"python": "3.9"}, says=("asks for Python 3.9", "3.10 or later")),
    "a Python that is none": Fault(settings={"python": "snake"}, says=("[build] python", "'snake'")),
    "a Python that is not there": Fault(settings={"python": "/nowhere/python3"}, says=("/nowhere/python3",)),
    "a runtime that is not there": Fault(settings={"runtime": "node"}, says=('runtime = "node"', "python")),
    "a secret that is not there": Fault(
        settings={"env": {"KEY": {"file": "/nowhere/key"}}}, says=("[env] KEY", "/nowhere/key", "No such file")
    ),
    "a builder that is not there": Fault(
        settings={"builder": "/nowhere/deferlite"}, says=("[build] builder = '/nowhere/deferlite'",)
    ),
    # Its repository.
    "a forced push": Fault(after=forget_the_commit, says=("commit", "was the branch moved")),
    "a deleted branch": Fault(after=delete_the_branch, says=("commit", "was the branch moved")),
    "a repository that is gone": Fault(after=remove_the_repository, says=("does not exist",)),
    # Somebody.
    "cancelled": Fault(settings={"prebuild": HANG}, meanwhile=cancel, says=("cancelled",)),
    "overtaken": Fault(settings={"prebuild": HANG}, meanwhile=overtake, says=("overtaken by build 3",)),
    "kill -9 of the box": Fault(
        settings={"prebuild": HANG}, meanwhile=kill("bwrap"), says=("prebuild", "killed by signal 9", "deferlite build")
    ),
    "kill -9 of the shell in the box": Fault(
        settings={"prebuild": HANG}, meanwhile=kill("sh"), says=("killed by signal 9",)
    ),
    "kill -9 of the install": Fault(settings={"install": HANG}, meanwhile=kill("sh"), says=("killed by signal 9",)),
    "kill -9 of the search": Fault(
        files={"jobs.py": HANGING_JOB}, meanwhile=kill("python"), says=("looking for", "killed by signal 9")
    ),
}


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made, made.at_work():
        yield made


async def test_there_are_enough_ways() -> None:
    assert len(FAULTS) >= 30


@pytest.mark.parametrize("name", FAULTS)
async def test_a_build_with(shop: Workshop, name: str) -> None:
    fault = FAULTS[name]
    good = await shop.build(shop.repository(JOBS, "good"))
    build = await broken(shop, fault)
    await assert_harmless(shop, good, build, fault.says)


async def broken(shop: Workshop, fault: Fault) -> Build:
    repository = shop.repository(fault.files, "bad")
    if fault.before is not None:
        fault.before(shop, repository)
    commit = repository.git("rev-parse", "HEAD")
    if fault.after is not None:
        fault.after(shop, repository)
    await shop.environment(repository, **fault.settings)
    build = await shop.request(commit)
    if fault.meanwhile is not None:
        await fault.meanwhile(shop, build)
    return await shop.ended(build)


async def assert_harmless(shop: Workshop, good: Build, build: Build, says: tuple[str, ...]) -> None:
    assert (build.state, bool(build.error)) == (BuildState.FAILED, True)
    said = build.error or ""
    assert [part for part in says if part not in said] == [], said
    log = (await shop.log(build)).splitlines()
    assert said.splitlines()[0] in log
    # The tail of what failed is in the error, and all of it in the log.
    assert set(said.splitlines()) <= set(log) | {""}
    assert await shop.live() == good.id
    assert (await shop.launch(good)).modules == ("jobs",)
    assert leftovers(shop, build) == []


def leftovers(shop: Workshop, build: Build) -> list[str]:
    made = [*shop.layout.all_dependencies.glob("*"), *shop.layout.builders.glob("*")]
    half_made = [str(path) for path in made if not (path / "complete.json").exists()]
    folders = [str(path) for path in [shop.folder(build).path] if path.exists()]
    return half_made + folders + list(processes_of(build.id).values())


async def test_a_killed_uv(shop: Workshop) -> None:
    good = await shop.build(shop.repository(JOBS, "good"))
    with silent_server() as port:
        address = f"six @ http://127.0.0.1:{port}/six-1.17.0-py3-none-any.whl\n"
        repository = shop.repository({**JOBS, "requirements.txt": address}, "bad")
        await shop.environment(repository)
        build = await shop.request(repository.git("rev-parse", "HEAD"))
        # Not the one that makes the environment, which is gone in a moment.
        os.kill(await until_running("uv", build, "install"), signal.SIGKILL)
        build = await shop.ended(build)
    await assert_harmless(shop, good, build, ("uv", "killed by signal 9"))


async def test_a_killed_git(shop: Workshop) -> None:
    good = await shop.build(shop.repository(JOBS, "good"))
    with silent_server() as port:
        await shop.environment(f"git://127.0.0.1:{port}/shop")
        build = await shop.request("1" * 40)
        await shop.until(build, lambda now: now.state is BuildState.CLONING)

        def fetching() -> list[int]:
            return [pid for pid, said in processes_of(f":{port}/shop").items() if "git" in said]

        for pid in await anyio.to_thread.run_sync(until_found, fetching):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        build = await shop.ended(build)
    await assert_harmless(shop, good, build, ("git",))


@contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """A file system of its own at ``folder``; False where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    mounted = os.getuid() == 0 and subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("where", ["cloning", "installing"])
async def test_a_full_disk(shop: Workshop, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = await shop.build(shop.repository(JOBS, "good"))
    files = {**JOBS, "requirements.txt": "six\n", "large": "x" * 2_000_000}
    repository = shop.repository(files, "bad")
    folder = shop.layout.builds / "bad" if where == "cloning" else shop.layout.uv_cache("bad")
    with small_disk(folder, "1m") as mounted:
        if not mounted:

            async def full(*_: object) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

            monkeypatch.setattr(Sources if where == "cloning" else PythonRuntime, FULL[where], full)
        elif where == "installing":
            (folder / "filler").write_bytes(b"x" * 1_040_000)
        build = await shop.build(repository, "bad")
    assert build.state is BuildState.FAILED
    assert "space" in (build.error or ""), build.error
    assert (await shop.live(), await shop.live("bad")) == (good.id, None)
    assert (await shop.launch(good)).modules == ("jobs",)
    assert leftovers(shop, build) == []


FULL = {"cloning": "fetch", "installing": "install"}

STAGES = {
    "installing": f'install = "{HANG}"',
    "generating": f'prebuild = "{HANG}"',
    "compiling": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_server_that_is_killed_while(stage: str, tmp_path: Path) -> None:
    """The next start finds nothing of it, and builds the next commit."""
    repository = Repository(tmp_path / "shop", {"jobs.py": HANGING_JOB} if stage == "compiling" else JOBS)
    with Server(tmp_path / "home") as server:
        server.add("shop", f'repository = "{repository.path}"\n[build]\n{STAGES[stage]}\n')
        build = until_hanging(server)
        server.kill()
        deadline = time.monotonic() + 10
        while processes_of(build):
            assert time.monotonic() < deadline, processes_of(build)
        good = repository.commit("mended", JOBS)
        server.add("shop", f'repository = "{repository.path}"\n')
        server.start()
        assert server.until_built("shop", good)["state"] == "succeed"
        assert not (server.home / "builds" / "shop" / build).exists()
        made = [*(server.home / "cache" / "dependencies").iterdir()]
        assert all((path / "complete.json").exists() for path in made)


def until_hanging(server: Server) -> str:
    """The id of the first build whose log says so."""
    with server.admin() as admin, admin.stream("GET", "/events") as events:
        changes = events.iter_lines()
        while True:
            for build in admin.get("/environments/shop/builds").json().get("data", []):
                log = admin.get(f"/builds/{build['id']}/logs").text
                if "hanging" in log.replace("echo hanging", ""):
                    return str(build["id"])
            next(line for line in changes if line.startswith("event: "))


SAID: dict[str, tuple[int, str, type[DeferliteError], str]] = {
    "no disk": (1, "error: failed to write: No space left on device (os error 28)", WorldError, "the disk is full"),
    "no quota": (1, "cp: Disk quota exceeded", WorldError, "the disk is full"),
    "uv without a network": (2, "error: Failed to fetch: http://x\n dns error", WorldError, "does not answer"),
    "poetry without a network": (
        1,
        "HTTPSConnectionPool(host='x', port=443): Max retries exceeded with url",
        WorldError,
        "does not answer",
    ),
    "pip without a network": (1, "[Errno -3] Temporary failure in name resolution", WorldError, "does not answer"),
    "no such file there": (2, "Failed to fetch\nHTTP status client error (404 Not Found)", BuildError, "status 2"),
    "out of memory": (137, "", WorldError, "killed by signal 9"),
    "killed": (-9, "", WorldError, "killed by signal 9"),
    "ended": (-15, "", BuildError, "killed by SIGTERM"),
    "crashed": (139, "", BuildError, "killed by SIGSEGV"),
    "wrong": (1, "ValueError: 7", BuildError, "exit status 1"),
    "no signal at all": (255, "", BuildError, "exit status 255"),
}


@pytest.mark.parametrize("name", SAID)
def test_the_world_and_the_project_are_told_apart(name: str) -> None:
    status, tail, kind, said = SAID[name]
    with pytest.raises(kind) as caught:
        expect(Completed(returncode=status, timed_out=False, output_tail=tail), "`it`")
    assert said in str(caught.value).splitlines()[0]
    assert str(caught.value).splitlines()[1:] == tail.splitlines()
