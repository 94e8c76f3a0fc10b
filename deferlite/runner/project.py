"""The user's project inside this interpreter: importing it once, and whether it survives a fork."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import logging
import os
import stat
import sys
from collections.abc import Iterable
from typing import Any

_COROUTINE = 0x80
"""``inspect.CO_COROUTINE``, without the imports of inspect."""


class Project:
    """What ``configure`` said of the project."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.modules: list[str] = settings["modules"]
        self.path: list[str] = settings["path"]
        self.folder: str = settings["project"]
        self.in_scratch: bool = settings["workdir"] == "scratch"
        self.django: str | None = settings["django"]
        self.limits: dict[str, int] = settings["limits"]
        self.environ = dict(os.environ)
        """As it was before the project could change it."""

    def load(self) -> None:
        """Import the modules; raises whatever they raise."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True, errors="backslashreplace")
        sys.path[:0] = self.path
        os.chdir(self.folder)
        if self.django is not None:
            os.environ["DJANGO_SETTINGS_MODULE"] = self.django
            importlib.import_module("django").setup()
        for name in self.modules:
            importlib.import_module(name)
        if self._has_coroutines():
            importlib.import_module("asyncio")
        if "django.db" in sys.modules:
            with contextlib.suppress(Exception):
                sys.modules["django.db"].connections.close_all()
        if logging.lastResort is not None and not logging.root.handlers:
            logging.root.setLevel(min(logging.root.level, logging.INFO))
        gc.collect()
        gc.freeze()

    def _has_coroutines(self) -> bool:
        """Whether a function here is async: importing asyncio once is cheaper than in every execution."""
        for name in self.modules:
            for value in tuple(vars(sys.modules[name]).values()):
                with contextlib.suppress(Exception):
                    if getattr(value, "__fn__", value).__code__.co_flags & _COROUTINE:
                        return True
        return False


def unforkable(own: Iterable[int]) -> str | None:
    """What stands in the way of forking this process; ``own`` are descriptors of the runner itself."""
    threads = len(os.listdir("/proc/self/task")) - 1
    if threads:
        return f"importing the modules started {threads} thread(s)"
    patched = sys.modules.get("gevent.monkey") or sys.modules.get("eventlet.patcher")
    if patched is not None and (getattr(patched, "saved", None) or getattr(patched, "already_patched", None)):
        return f"{patched.__name__} has replaced the standard library"
    skip = {0, 1, 2, *own}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) in skip:
                continue
            if stat.S_ISSOCK(os.stat(int(name)).st_mode):
                return "importing the modules opened a socket"
            if "eventpoll" in os.readlink(f"/proc/self/fd/{name}"):
                return "importing the modules made an event loop"
    return None
