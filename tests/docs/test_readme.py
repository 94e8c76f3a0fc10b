"""README promises nothing that does not work: every ``sh`` block runs, in order, as one newcomer's session."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deferlite.model.environment_file import parse
from tests.support import clean_environ, free_port

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


SETTLE = """
settle() {  # as a newcomer reads on, the commit goes live
  for _ in $(seq 200); do
    newest=$(deferlite builds shop --json 2>/dev/null | python3 -c '
import json, sys
builds = json.load(sys.stdin)
print(builds[0]["commit"], builds[0]["state"]) if builds else None' 2>/dev/null) || true
    [ "$newest" = "$(git rev-parse HEAD) succeed" ] && return 0
  done
  echo "the build does not end: $newest" >&2; exit 1
}
"""


def test_the_five_minutes_and_what_follows(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Its name is part of a socket's path, which is 107 bytes long at most.
    home = tmp_path_factory.mktemp("readme")
    port = str(free_port())
    first, *following = blocks("sh")
    script = "\n".join(["set -eu", SETTLE, first, *(f"{block}\nsettle" for block in following)]).replace("3337", port)
    environ = clean_environ(
        HOME=str(home),
        DEFERLITE_PORT=port,
        BROWSER="true",
        GIT_AUTHOR_NAME="A newcomer",
        GIT_AUTHOR_EMAIL="newcomer@localhost",
        GIT_COMMITTER_NAME="A newcomer",
        GIT_COMMITTER_EMAIL="newcomer@localhost",
    )
    environ.pop("XDG_DATA_HOME", None)
    with open(home / "server.log", "w") as log:
        session = subprocess.Popen(
            ["bash", "-c", script + "\nkill %1 && wait"],
            cwd=home,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = session.communicate(timeout=180)
        finally:
            if session.poll() is None:
                os.killpg(session.pid, signal.SIGKILL)
    assert session.returncode == 0, printed + (home / "server.log").read_text()
    for expected in ("Hello, world!", "Hello, HTTP!", "Hello, Python!", "Good morning, world!", "?key="):
        assert expected in printed, printed


@pytest.mark.parametrize("code", [block for block in blocks("python") if "assert" in block])
def test_python_examples(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean_environ(), timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_environment_file_is_a_good_one() -> None:
    (text,) = blocks("toml")
    parsed = parse(text, "shop", "README.md")
    assert parsed.faults == [] or not parsed.faults


def test_every_command_is_named(tmp_path: Path) -> None:
    help_text = subprocess.run(
        [str(Path(sys.executable).parent / "deferlite"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = re.findall(r"^  ([a-z]+) ", help_text.partition("Commands:")[2], re.MULTILINE)
    assert commands
    for command in commands:
        assert f"`{command}`" in README
