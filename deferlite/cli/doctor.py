"""``deferlite doctor``."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import anyio
import click
import msgspec
import uv

from deferlite.builder.layout import Layout
from deferlite.builder.runtimes.interpreters import Interpreters, own_interpreter
from deferlite.builder.runtimes.versions import OLDEST
from deferlite.cli.errors import Failure
from deferlite.cli.options import home_option, json_option
from deferlite.cli.output import print_json
from deferlite.model.errors import DeferliteError
from deferlite.sandbox.levels import Level, probe
from deferlite.sandbox.process import output
from deferlite.store.connection import OLDEST_SQLITE

_SPACE_NEEDED = 200 * 1024**2
_SPACE_WISHED = 2 * 1024**3
_EARLIEST = 1_735_689_600
"""2025-01-01: a clock before that was never set."""
_CONTROLLERS = ("cpu", "memory", "pids")
_WATCHED = "the memory of an execution's whole tree is watched every 50 ms"
_MARKS = {"good": ("ok", "green"), "weak": ("--", "yellow"), "bad": ("!!", "red")}


class Finding(msgspec.Struct, frozen=True):
    """``bad``: deferlite cannot work. ``weak``: it can, with less; the detail has the cure."""

    name: str
    verdict: Literal["good", "weak", "bad"]
    detail: str


@click.command()
@json_option
@home_option
def command(home: Path, as_json: bool) -> None:
    """Tell what this machine can do.

    Exit 1 if something needed is missing.
    """
    findings = anyio.run(_examine, home)
    if as_json:
        print_json([msgspec.to_builtins(finding) for finding in findings])
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            mark, colour = _MARKS[finding.verdict]
            click.echo(f"{click.style(mark, fg=colour)} {finding.name:<{width}}  {finding.detail}")
    if bad := [finding.name for finding in findings if finding.verdict == "bad"]:
        raise Failure(f"needed and missing: {', '.join(bad)}")


async def _examine(home: Path) -> list[Finding]:
    asked: tuple[Callable[[], Coroutine[Any, Any, Finding]], ...] = (_sandbox, _git, _uv, _node)
    found = [await ask() for ask in asked]
    return [_python(), await _builds(home), *found, _cgroups(), _disk(home), _sqlite(), _clock(), _zones()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "good", f"{version}, {sys.executable}")


async def _builds(home: Path) -> Finding:
    """The interpreters that projects may be built with, the newest first."""
    known = {one.path: one for one in (own_interpreter(), *await Interpreters(Layout(home)).known())}
    good = sorted((one for one in known.values() if one.version >= OLDEST), key=lambda one: one.version, reverse=True)
    shown = ", ".join(f"{one.label} at {one.path}" for one in good)
    return Finding("builds use", "good" if good else "weak", f"{shown}; others are fetched by uv when asked for")


async def _sandbox() -> Finding:
    status = await probe("auto")
    verdict: Literal["good", "weak"] = "good" if status.level is Level.BUBBLEWRAP else "weak"
    return Finding("sandbox", verdict, f"{status.level.value}: {status.detail}")


async def _git() -> Finding:
    version = await _version("git", "--version")
    if version is None:
        return Finding("git", "bad", "not found: install git, environments are fetched with it")
    return Finding("git", "good", version)


async def _uv() -> Finding:
    try:
        program = uv.find_uv_bin()
    except FileNotFoundError:
        return Finding("uv", "bad", "its program is missing: reinstall deferlite[server]")
    version = await _version(program, "--version")
    if version is None:
        return Finding("uv", "bad", f"{program} does not run: reinstall deferlite[server]")
    return Finding("uv", "good", f"{version}, {program}")


async def _node() -> Finding:
    version = await _version("node", "--version")
    if version is None:
        return Finding("node", "weak", "not found: only environments with Node projects need it")
    return Finding("node", "good", version)


async def _version(*argv: str) -> str | None:
    program = shutil.which(argv[0])
    if program is None:
        return None
    try:
        return (await output([program, *argv[1:]])).strip()
    except DeferliteError:
        return None


def _cgroups() -> Finding:
    """Whether a group of our own with a memory limit can be made (cgroup v2, delegated)."""
    try:
        own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        folder = Path("/sys/fs/cgroup", own[3:].lstrip("/"))
        offered = (folder / "cgroup.controllers").read_text().split()
    except (OSError, StopIteration):
        return Finding("cgroups", "weak", f"no cgroup v2: {_WATCHED}")
    missing = [name for name in _CONTROLLERS if name not in offered]
    if missing or not os.access(folder, os.W_OK):
        why = f"no {', '.join(missing)} controller" if missing else f"{folder} is not ours to write"
        cure = "run the server as a systemd service with Delegate=yes"
        return Finding("cgroups", "weak", f"v2, not delegated ({why}): {_WATCHED}; {cure}")
    return Finding("cgroups", "good", f"v2, delegated: {', '.join(_CONTROLLERS)}")


def _disk(home: Path) -> Finding:
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("disk", "bad", f"{place} cannot be written: choose another --home, or change its owner")
    free = shutil.disk_usage(place).free
    detail = f"{free / 1024**3:.1f} GiB free for {home}"
    if free < _SPACE_NEEDED:
        return Finding("disk", "bad", f"{detail}: free some, builds and the queue need room")
    return Finding("disk", "good" if free >= _SPACE_WISHED else "weak", detail)


def _sqlite() -> Finding:
    if sqlite3.sqlite_version_info >= OLDEST_SQLITE:
        return Finding("sqlite", "good", sqlite3.sqlite_version)
    needed = ".".join(map(str, OLDEST_SQLITE))
    return Finding(
        "sqlite", "bad", f"{sqlite3.sqlite_version}: {needed} or later is needed, take a newer Python or system"
    )


def _clock() -> Finding:
    now = time.time()
    if now < _EARLIEST:
        return Finding("clock", "bad", f"stands at {time.ctime(now)}: set it, delays and cron go by it")
    return Finding(
        "clock", "good", f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(now))}, local zone {time.tzname[0]}"
    )


def _zones() -> Finding:
    try:
        ZoneInfo("Europe/Paris")
    except ZoneInfoNotFoundError:
        return Finding("time zones", "bad", "no database: install tzdata, cron with a time zone needs it")
    return Finding("time zones", "good", "there")
