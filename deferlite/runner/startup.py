"""The start of a runner: its configuration, the import of the user's modules, then the loop."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from time import monotonic
from typing import Any, NoReturn

from deferlite.runner import trees
from deferlite.runner.execution import CHUNK
from deferlite.runner.failures import describe
from deferlite.runner.frames import Frames, frame
from deferlite.runner.project import Project, unforkable
from deferlite.runner.spawner import Spawner
from deferlite.runner.zygote import Zygote


def serve(control: int, program: str) -> NoReturn:
    """Speak the protocol on ``control`` until its end; everything started is ended then."""
    try:
        trees.die_with_parent()
        _close_others(control)
        os.set_inheritable(control, False)
        frames = Frames(1 << 31)
        header, _, line = _first(control, frames)
        project = Project(header)
        _limit(project.limits)
        os.write(control, frame({"type": "importing"}))
        began = monotonic()
        try:
            project.load()
            _flush()
        except BaseException as error:
            os.write(control, frame({"type": "failed"}, describe(error)))
            os._exit(1)
        reason = unforkable([control])
        # From here on the end of the stream says that the server is gone, and there is a tree to end first.
        # As process 1 of a box it cannot outlive the box's outer process either way, and need not.
        if os.getpid() != 1:
            trees.die_with_parent(0)
        trees.adopt_orphans()
        spawner = Spawner(project, line, program if reason else None, header["scratch"])
        zygote = Zygote(control, frames, project, spawner)
        seconds = round(monotonic() - began, 6)
        zygote.tell(frame({"type": "ready", "fork": reason is None, "reason": reason, "seconds": seconds}))
        zygote.run()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _first(control: int, frames: Frames) -> tuple[dict[str, Any], bytes, bytes]:
    while data := os.read(control, CHUNK):
        for found in frames.feed(data):
            return found
    os._exit(0)


def _close_others(control: int) -> None:
    """Descriptors of the server's that slipped through are none of the user's business."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) not in (0, 1, 2, control):
                os.close(int(name))


def _limit(limits: dict[str, int]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind, most in ((resource.RLIMIT_NOFILE, limits["files"]), (resource.RLIMIT_FSIZE, limits["file_size"])):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    try:
        # Where the whole machine runs out of memory, an execution goes before the server does.
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass


def _flush() -> None:
    """What modules have printed is not to be printed again by every fork."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
