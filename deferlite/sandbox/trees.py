"""Process trees as the server ends them from outside; inside a box the namespace's end does the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROUNDS = 50


def kill_tree(root: int) -> None:
    """SIGKILL to ``root``, to its session, and to all that descends from it, until nothing new appears.

    ``root`` must lead a session of its own. What has left the session and lost its parent before is out of
    reach without a box. Blocks.
    """
    seen: set[int] = set()
    for _ in range(ROUNDS):
        found = {pid for pid in _members(root) if pid not in seen}
        kill_group(root)
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        seen |= found


def kill_group(root: int) -> None:
    """SIGKILL to ``root`` and to the rest of the group that it leads."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(root, signal.SIGKILL)


def _members(root: int) -> Iterator[int]:
    """Descendants of ``root`` and members of its session."""
    parents: dict[int, int] = {}
    session: set[int] = {root}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):
                fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                if int(fields[3]) == root:
                    session.add(int(entry.name))
    for pid in parents:
        ancestor: int | None = pid
        while ancestor is not None and ancestor not in session:
            ancestor = parents.get(ancestor)
        if ancestor is not None and pid != os.getpid():
            yield pid
