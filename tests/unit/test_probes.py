"""Crash points: the names in the table are those in the code, and a point that is none is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import deferlite
from deferlite.probes import CRASH_POINTS

SOURCES = [path.read_text() for path in Path(deferlite.__file__).parent.rglob("*.py") if path.name != "probes.py"]


def test_every_point_is_passed_somewhere() -> None:
    literal = {name for text in SOURCES for name in re.findall(r'crash_point\("([a-z._]+)"\)', text)}
    around = {name for text in SOURCES for name in re.findall(r'(?:, |add\()"([a-z]+)"\)', text)}
    commits = {f"{step}.{moment}" for step in around for moment in ("before_commit", "after_commit")}
    assert literal <= CRASH_POINTS <= literal | commits


def test_a_point_that_is_none_is_refused() -> None:
    command = [sys.executable, "-c", "import deferlite.probes"]
    done = subprocess.run(command, env={"DEFERLITE_CRASH_AT": "lunch.before"}, capture_output=True, text=True)
    assert done.returncode == 1 and "there is no point 'lunch.before'" in done.stderr
