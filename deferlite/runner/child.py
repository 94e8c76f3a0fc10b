"""The process of one execution: takes an order from its channel, runs the function, writes the result, ends.

The channel is a socket to the runner with the same frames. Order in: ``start`` as the server sent it. Out: ``log`` for
records of ``logging``, then ``result`` with ok (bool) and the payload. A spare of its own (run.py --child) gets
``configure`` first, with its scratch folder added, and says ``ready`` or ``failed``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import logging
import os
import sys
import threading
import time
from os import _exit, read
from typing import Any, NoReturn

from deferlite.runner.failures import describe, error_object
from deferlite.runner.frames import Frames, frame, send
from deferlite.runner.project import Project
from deferlite.runner.trees import adopt_orphans, die_with_parent

BROKEN = 70
"""Exit status when the runner's own code failed."""

_ORDER_LIMIT = 1 << 31

_REHEARSAL = frame({"type": "start", "module": "builtins", "attribute": "len", "arguments": 4}, b"[[]]{}")


def spare(channel: int) -> NoReturn:
    """A process of its own that imports ahead and waits for an order."""
    os.set_inheritable(channel, False)
    os.setsid()
    frames = Frames(_ORDER_LIMIT)
    header = _next(channel, frames)[0]
    project = Project(header)
    try:
        project.load()
    except BaseException as error:
        send(channel, frame({"type": "failed"}, describe(error)))
        _leave(1)
    sys.stdout.flush()
    send(channel, frame({"type": "ready"}))
    live(channel, project, header["own_scratch"], frames)


def live(channel: int, project: Project, scratch: str, frames: Frames | None = None) -> NoReturn:
    """Wait for the order and carry it out; never returns, whatever the function does."""
    status = BROKEN
    try:
        die_with_parent()
        adopt_orphans()
        logging.lastResort = _Channel(channel)
        _rehearse()
        header, payload = _next(channel, frames or Frames(_ORDER_LIMIT))
        try:
            _furnish(header["env"], project, scratch)
        except Exception as error:
            send(channel, frame({"type": "unfurnished"}, describe(error)))
            _exit(BROKEN)
        ok, result = _perform(header, payload, project.limits["result"])
        send(channel, frame({"type": "result", "ok": ok}, result))
        status = 0
        _finish()
    finally:
        _exit(status)


def _rehearse() -> None:
    """Do what an order will need: in a forked process the first touch of every page costs, better now than then."""
    for header, payload, _ in Frames(_ORDER_LIMIT).feed(_REHEARSAL):
        variables = dict(os.environ)
        os.environ.clear()
        os.environ.update(variables)
        frame({"type": "result", "ok": True}, _perform(header, payload, 100)[1])


def _next(channel: int, frames: Frames) -> tuple[dict[str, Any], bytes]:
    while True:
        data = read(channel, 1 << 20)
        if not data:
            _exit(0)
        for header, payload, _ in frames.feed(data):
            return header, payload


def _furnish(env: dict[str, str], project: Project, scratch: str) -> None:
    """The surroundings of one execution: variables, folders, time zone, chance."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(scratch, 0o700)
    zone = os.environ.get("TZ")
    os.environ.clear()
    os.environ.update(env)
    os.environ.update(HOME=scratch, TMPDIR=scratch)
    if project.django is not None:
        os.environ["DJANGO_SETTINGS_MODULE"] = project.django
    if env.get("TZ") != zone:
        time.tzset()
    os.chdir(scratch if project.in_scratch else project.folder)
    # random reseeds itself after a fork; these two do not.
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "tempfile" in sys.modules:
        vars(sys.modules["tempfile"])["tempdir"] = None


def _perform(header: dict[str, Any], payload: bytes, limit: int) -> tuple[bool, bytes]:
    """Whether the function returned, and the result or the error object."""
    try:
        function = _find(header["module"], header["attribute"])
        split = header["arguments"]
        value = function(*json.loads(payload[:split]), **json.loads(payload[split:]))
        if hasattr(value, "__await__"):
            value = importlib.import_module("asyncio").run(_await(value))
        return True, _to_json(value, limit)
    except SystemExit as stop:
        return _stopped(stop.code)
    except BaseException as error:
        return False, describe(error)


def _find(module: str, attribute: str) -> Any:
    function = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    return getattr(function, "__fn__", function)


async def _await(value: Any) -> Any:
    return await value


def _stopped(code: object) -> tuple[bool, bytes]:
    """``sys.exit``: 0 and None are an end like any other, and there is no result."""
    if code is None or code == 0:
        return True, b"null"
    if not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        return False, error_object("NonZeroExit", f"exited with status 1: {code}")
    return False, error_object("NonZeroExit", f"exited with status {code & 0xFF}")


def _to_json(value: Any, limit: int) -> bytes:
    try:
        _check(value)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise TypeError("returned something that is not JSON: text with a lone surrogate") from None
    except RecursionError:
        raise TypeError("returned something that is not JSON: it is nested too deep") from None
    except (TypeError, ValueError) as error:
        raise TypeError(f"returned something that is not JSON: {error}") from None
    if len(text) > limit:
        raise ValueError(
            f"returned {len(text) / 1048576:.1f} MiB of JSON, more than the {limit / 1048576:g} MiB allowed: "
            "store it elsewhere and return where it is"
        )
    return text


def _check(value: Any) -> None:
    """Refuse keys that are not text: json.dumps would write another key than the function's."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r:.80}, which is of type {type(key).__name__}")
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for item in value:
        if isinstance(item, (dict, list, tuple)):
            _check(item)


def _finish() -> None:
    """End as a program does: threads that are no daemons, then atexit, then what is still in the buffers."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            continue


def _leave(status: int) -> NoReturn:
    _finish()
    _exit(status)


class _Channel(logging.Handler):
    """Records of ``logging`` with their level, as long as the project has set up no handlers of its own."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self._channel = channel
        self._owner = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record).encode(errors="replace")
            if os.getpid() != self._owner:
                # A process that the function forked: frames of two writers would tear each other.
                sys.stderr.write(text.decode() + "\n")
                return
            header = {"type": "log", "level": record.levelname, "time": int(record.created * 1_000_000)}
            send(self._channel, frame(header, text + b"\n"))
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)
