"""Commands: output by line, time-outs, whole trees; the box; and what a machine's refusal is explained as."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path

import anyio
import pytest

from deferlite.model.errors import SandboxError, WorldError
from deferlite.sandbox import levels
from deferlite.sandbox.box import Box, interpreter_folders, wrap
from deferlite.sandbox.levels import Level, SandboxStatus, explain, probe
from deferlite.sandbox.process import Completed, output, run
from tests.support import missing

pytestmark = pytest.mark.anyio

TREE = """
import os, subprocess, sys, time
subprocess.Popen(["sleep", "1000000"])
if os.fork() == 0:
    if len(sys.argv) > 2:
        os.setsid()
    time.sleep(1000000)
print("started", flush=True)
time.sleep(float(sys.argv[1]))
"""


async def python(code: str, *arguments: str, timeout: float | None = 30, **more: object) -> Completed:
    argv = [sys.executable, "-c", code, *arguments]
    return await run(argv, cwd=Path("/"), status=None, timeout=timeout, **({"env": {}} | more))  # type: ignore[arg-type]


def marked(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and mark.encode() in (entry / "environ").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


async def test_output_comes_by_line_and_by_stream() -> None:
    heard: list[tuple[str, str]] = []
    code = "import sys, os; print('one\\r'); print(); os.write(2, b'caf\\xe9\\nrest'); sys.exit(3)"
    done = await python(code, on_line=lambda stream, text: heard.append((stream, text)))
    assert (done.returncode, done.timed_out) == (3, False)
    assert [text for stream, text in heard if stream == "stdout"] == ["one", ""]
    assert [text for stream, text in heard if stream == "stderr"] == ["caf�", "rest"]
    assert "one" in done.output_tail and "rest" in done.output_tail


async def test_a_signal_is_a_negative_status_and_stdin_is_empty() -> None:
    done = await python("import os, sys; assert sys.stdin.read() == ''; os.kill(os.getpid(), 9)")
    assert done.returncode == -9


async def test_nothing_of_the_environment_is_inherited() -> None:
    heard: list[str] = []
    await python(
        "import os; print(sorted(os.environ))", env={"A": "1", "LC_ALL": "C"}, on_line=lambda _, x: heard.append(x)
    )
    assert heard == ["['A', 'LC_ALL']"]


@pytest.mark.parametrize("seconds", ["0", "1000000"])
async def test_the_whole_tree_ends_with_the_command_and_on_a_timeout(seconds: str) -> None:
    mark = uuid.uuid4().hex
    done = await python(
        TREE, seconds, env={"MARK": mark, "PATH": os.environ["PATH"]}, timeout=0.5 if seconds > "0" else 30
    )
    assert done.timed_out == (seconds > "0")
    assert marked(mark) == []


async def test_the_whole_tree_ends_when_the_caller_is_cancelled() -> None:
    mark = uuid.uuid4().hex
    async with anyio.create_task_group() as tasks:
        started = anyio.Event()

        async def call() -> None:
            env = {"MARK": mark, "PATH": os.environ["PATH"]}
            await python(TREE, "1000000", env=env, on_line=lambda *_: started.set())

        tasks.start_soon(call)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert marked(mark) == []


async def test_a_program_that_does_not_exist_is_a_sandbox_error() -> None:
    with pytest.raises(SandboxError, match="cannot start /nowhere/program"):
        await run(["/nowhere/program"], cwd=Path("/"), env={}, status=None, timeout=1)


async def test_output_of_a_small_command_and_its_failure() -> None:
    assert await output([sys.executable, "-c", "print(1); print(2)"]) == "1\n2"
    with pytest.raises(WorldError, match="went wrong"):
        await output([sys.executable, "-c", "import sys; sys.exit('went wrong')"])
    with pytest.raises(WorldError, match="took longer"):
        await output([sys.executable, "-c", "import time; time.sleep(1e6)"], timeout=0.2)


@pytest.mark.needs("bwrap")
async def test_the_box_shows_what_it_lists_and_no_more(tmp_path: Path) -> None:
    status = await probe("auto")
    if status.level is not Level.BUBBLEWRAP:
        missing(status.detail)
    (tmp_path / "build").mkdir()
    (tmp_path / "scratch").mkdir()
    (tmp_path / "secret").write_text("x")
    code = (
        "import os, sys, socket; t = sys.argv[1]\n"
        "open(t + '/scratch/new', 'w').write(os.environ['KEY'])\n"
        "print(os.path.exists(t + '/secret'), os.path.exists('/home'), os.getpid() < 10)\n"
        "try: print(len(open('/etc/shadow').read()))\n"
        "except OSError: print(0)\n"
        "for path in (t + '/build/new', '/new', '/usr/new'):\n"
        "    try: open(path, 'w')\n"
        "    except OSError as error: print(error.strerror)\n"
        "print(os.getcwd() == t + '/build', len(socket.if_nameindex()))\n"
    )
    box = Box(
        read_only=(tmp_path / "build", *interpreter_folders(Path(sys.executable))),
        writable=(tmp_path / "scratch",),
        network=False,
        cwd=tmp_path / "build",
        env={"KEY": "value"},
    )
    heard: list[str] = []
    done = await run(
        [str(Path(sys.executable).resolve()), "-c", code, str(tmp_path)],
        cwd=Path("/"),
        env={},
        status=status,
        box=box,
        timeout=30,
        on_line=lambda stream, text: heard.append(text),
    )
    assert done.returncode == 0, done.output_tail
    assert heard == ["False False True", "0", *["Read-only file system"] * 3, "True 1"]
    assert (tmp_path / "scratch" / "new").read_text() == "value"


def test_variables_are_not_on_the_command_line() -> None:
    status = SandboxStatus(level=Level.BUBBLEWRAP, detail="", bwrap="bwrap")
    box = Box(cwd=Path("/tmp"), env={"KEY": "secret-value"})
    argv = wrap(status, box, ["true"])
    assert argv[0] == "bwrap" and argv[-1] == "true"
    assert "secret-value" not in " ".join(argv)


def test_without_bubblewrap_the_command_is_left_alone() -> None:
    status = SandboxStatus(level=Level.PROCESS, detail="")
    assert wrap(status, Box(cwd=Path("/"), env={}), ["true", "x"]) == ["true", "x"]


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("setting up uid map: Permission denied", "apparmor_restrict_unprivileged_userns=0"),
        ("loopback: Failed RTM_NEWADDR: Operation not permitted", "apparmor_restrict_unprivileged_userns=0"),
        ("No permissions to create a new namespace, likely because …", "user.max_user_namespaces"),
        ("Can't mount proc on /newroot/proc: Operation not permitted", "unmasked /proc"),
        ("something new", "bwrap failed: something new"),
    ],
)
def test_a_refusal_is_explained_with_its_cure(said: str, cure: str) -> None:
    assert cure in explain(said)


async def test_a_bwrap_that_fails_is_never_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(levels, "find_bwrap", lambda: str(fake))
    status = await probe("auto")
    assert status.level is Level.PROCESS and "AppArmor" in status.detail
    with pytest.raises(SandboxError, match="AppArmor"):
        await probe("required")
    monkeypatch.setattr(levels, "find_bwrap", lambda: None)
    with pytest.raises(SandboxError, match="install bubblewrap"):
        await probe("required")
    assert (await probe("off")).level is Level.PROCESS


def test_an_interpreter_needs_every_installation_on_the_way(tmp_path: Path) -> None:
    real = tmp_path / "real-3.12.1" / "bin"
    real.mkdir(parents=True)
    (real / "python3.12").write_text("")
    (real / "python").symlink_to("python3.12")
    (tmp_path / "minor-3.12").symlink_to("real-3.12.1")
    venv = tmp_path / "venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "python").symlink_to(tmp_path / "minor-3.12" / "bin" / "python")
    assert set(interpreter_folders(venv / "python")) == {
        tmp_path / "venv",
        tmp_path / "minor-3.12",
        tmp_path / "real-3.12.1",
    }
