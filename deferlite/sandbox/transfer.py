"""Fetches commits of a remote repository, and tells how far it has come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import anyio

from deferlite.model.errors import WorldError
from deferlite.sandbox.access import Address, explain, variables_of
from deferlite.sandbox.git import plain
from deferlite.sandbox.process import run

SILENCE = 120.0
"""Seconds without a word after which the other side is given up; git's progress is a word too."""

EVERY = 5.0
"""Seconds between two lines that tell of progress."""

_OPTIONS = ("--progress", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance")


async def fetch(
    mirror: Path,
    address: Address,
    wanted: str,
    say: Callable[[str], None],
    *,
    depth: int | None,
    protocols: str | None = None,
    silence: float = SILENCE,
) -> None:
    """Fetch the refspec ``wanted`` into ``mirror``; ``depth``: commits of its history, None: all that is not there yet.

    Raises:
        WorldError: the repository does not answer, or refuses; the message has the cure.
    """
    told = anyio.current_time()
    errors: deque[str] = deque(maxlen=20)

    def heard(_: str, line: str) -> None:
        nonlocal told
        now = anyio.current_time()
        patience.deadline = now + silence
        line = plain(line.strip())
        if line.endswith(("done.", ")")) or "%" in line:
            if now - told >= EVERY:
                told = now
                say(line)
        elif line:
            errors.append(line)

    options = (*_OPTIONS, *((f"--depth={depth}",) if depth else ()))
    with anyio.CancelScope(deadline=told + silence) as patience:
        done = await run(
            ["git", "fetch", *options, "--", address.url, wanted],
            cwd=mirror,
            env=variables_of(address, protocols=protocols),
            status=None,
            timeout=None,
            on_line=heard,
            progress=True,
        )
    if patience.cancelled_caught:
        raise WorldError(explain(f"it said nothing for {silence:g} s", address))
    if done.returncode != 0:
        raise WorldError(explain("\n".join(errors) or f"git ended with {done.returncode}", address))
