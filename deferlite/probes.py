"""Signals for tests: named crash points, and events that a test may wait for instead of sleeping.

A crash point is a line ``crash_point("claim.before_commit")``. It does nothing unless the variable
``DEFERLITE_CRASH_AT`` names it (``NAME`` or ``NAME:3`` for its third passage): then the process kills itself as
``kill -9`` would, in the middle of what it does.
"""

from __future__ import annotations

import os
import signal

CRASH_POINTS = frozenset(
    f"{step}.{moment}"
    for step in ("enqueue", "claim", "result", "retry", "cron", "cancel", "publish", "settle", "environment")
    for moment in ("before_commit", "after_commit")
) | {"spawn.before", "spawn.after", "result.received", "drain.during"}

_name, _, _count = os.environ.get("DEFERLITE_CRASH_AT", "").partition(":")
_left = int(_count or 1)
if _name and _name not in CRASH_POINTS:
    raise ValueError(f"DEFERLITE_CRASH_AT: there is no point {_name!r}; there are {', '.join(sorted(CRASH_POINTS))}")


def crash_point(name: str) -> None:
    """Die here if a test asked for it."""
    if name == _name:
        _die_at_last()


def _die_at_last() -> None:
    global _left
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
