"""Process trees as seen from inside: who descends from whom, how much memory, and ending all of it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from os import WNOHANG, kill, killpg, listdir, sysconf, waitpid
from signal import SIGCONT, SIGKILL, SIGTERM

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_PAGE = sysconf("SC_PAGE_SIZE")


def adopt_orphans() -> None:
    """From now on what loses its parent below this process becomes its child, as it would become init's."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(signal: int = SIGKILL) -> None:
    """0 takes it back."""
    _prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)


def children(pid: int) -> list[int]:
    """The living and the unreaped children of all threads of ``pid``; empty when it is gone."""
    found: list[int] = []
    try:
        for thread in listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                found += map(int, file.read().split())
    except FileNotFoundError:
        return found or _children_by_scan(pid)
    except (ProcessLookupError, PermissionError):
        pass
    return found


def _children_by_scan(pid: int) -> list[int]:
    """For kernels without CONFIG_PROC_CHILDREN, and for a thread that has just ended."""
    found = []
    for name in listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                    if int(file.read().rpartition(b")")[2].split()[1]) == pid:
                        found.append(int(name))
            except (OSError, IndexError, ValueError):
                continue
    return found


def tree(root: int) -> list[int]:
    """``root`` and all its descendants."""
    found = [root]
    for pid in found:
        found += children(pid)
        if len(found) > 10_000:
            break
    return found


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        try:
            kill(pid, SIGKILL)
        except OSError:
            continue


def memory(pids: list[int], limit: int) -> int:
    """Bytes the processes use together. Shared pages count fully while that is below ``limit``, else by share."""
    resident = sum(map(_resident, pids))
    return resident if resident <= limit else sum(map(_proportional, pids))


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb", buffering=0) as file:
            for line in file.read().splitlines():
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    return _resident(pid)


def signal_group(pid: int, signal: int) -> None:
    """To a process that has not been reaped, and its group once it has one."""
    for number in (signal, SIGCONT) if signal == SIGTERM else (signal,):
        try:
            killpg(pid, number)
        except OSError:
            try:
                kill(pid, number)
            except OSError:
                continue


def reap(pids: Iterable[int]) -> None:
    """Collect those that have ended."""
    for pid in pids:
        try:
            waitpid(pid, WNOHANG)
        except OSError:
            continue
