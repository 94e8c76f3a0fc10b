"""Imports the project's modules, and watches that none of them serves or stays there for ever."""

from __future__ import annotations

import _thread
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import NoReturn

from deferlite.runner.faults import GUARD, fault, place, print_own_frames
from deferlite.runner.layout import Layout, ProjectError

PATIENCE = 60.0
"""Seconds that importing may go on without another module being reached."""

_TURNS = 6
_INET = (2, 10)
"""``socket.AF_INET`` and ``AF_INET6`` of Linux, without the import of socket."""


class Imports:
    """Imports one thing after the other.

    A server that is started by an import, and an import that does not come to its end, are told to ``fail``,
    which ends the process: what the modules catch or swallow does not matter then.
    """

    def __init__(self, layout: Layout, fail: Callable[[str], NoReturn], patience: float = PATIENCE) -> None:
        self._layout = layout
        self._fail = fail
        self._patience = patience
        self._doing: str | None = None
        self._reached = 0
        self._main = _thread.get_ident()
        self._process = os.getpid()
        sys.addaudithook(self._hear)
        _thread.start_new_thread(self._watch, ())

    def modules(self, names: Iterable[str]) -> None:
        """Raises ProjectError: one cannot be imported."""
        for name in names:
            self.carry_out(f"import {name}", functools.partial(importlib.import_module, name))

    def carry_out(self, doing: str, action: Callable[[], object]) -> None:
        """Run code of the project; ``doing`` completes "cannot …". Raises ProjectError."""
        self._doing = doing
        try:
            action()
        except BaseException as error:
            self._doing = None
            print_own_frames(error, self._layout)
            raise ProjectError(fault(doing, error, self._layout)) from None
        finally:
            self._doing = None

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "import":
            self._reached += 1
        elif event == "socket.bind" and self._doing is not None and os.getpid() == self._process:
            socket, address = arguments
            port = address[1] if isinstance(address, tuple) and len(address) > 1 else 0
            if port and getattr(socket, "family", None) in _INET:
                where = self._statement(sys._getframe()) or self._statement(self._frame())
                self._fail(
                    f"cannot {self._doing}: it starts a server on port {port}{where}; put that under `{GUARD}`, "
                    "so that importing the module does not serve"
                )

    def _watch(self) -> None:
        """Runs in a thread of its own."""
        never = _thread.allocate_lock()
        never.acquire()
        seen: tuple[str | None, int] = (None, 0)
        turns = 0
        while True:
            never.acquire(timeout=self._patience / _TURNS)
            now = (self._doing, self._reached)
            turns = turns + 1 if now == seen and now[0] is not None else 0
            seen = now
            if turns >= _TURNS:
                self._fail(
                    f"cannot {now[0]}: for {self._patience:g} seconds it has stood{self._standing(self._frame())}; "
                    f"what waits or goes on for ever belongs into a function, or under `{GUARD}`"
                )

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._main)

    def _standing(self, frame: FrameType | None) -> str:
        while frame is not None and not self._layout.is_own(frame.f_code.co_filename):
            frame = frame.f_back
        return place(frame.f_code.co_filename, frame.f_lineno, self._layout) if frame is not None else ""

    def _statement(self, frame: FrameType | None) -> str:
        """The statement at the top of a module that has led here: that is the one to put elsewhere."""
        top = frame
        while top is not None and (top.f_code.co_name != "<module>" or not self._layout.is_own(top.f_code.co_filename)):
            top = top.f_back
        return self._standing(top or frame)
