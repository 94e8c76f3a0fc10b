"""Sockets and uvicorn: the app on a TCP port for everyone, and on a Unix socket for the command line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

from deferlite.model.errors import DeferliteError

BACKLOG = 2048
GRACE = 1
"""Seconds that open streams (live pages) get at the end."""


def _is_news(record: logging.LogRecord) -> bool:
    # That streams which are open at the end are cut off is no error, and no traceback for each.
    cut_off = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut_off and "graceful shutdown exceeded" not in record.msg


logging.getLogger("uvicorn.error").addFilter(_is_news)


class ListenError(DeferliteError):
    """The address cannot be listened on."""


def bind_tcp(address: str, port: int) -> socket.socket:
    """A bound socket.

    Raises:
        ListenError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        cure = "another program listens there: stop it, or choose another with --port" if port else "see --address"
        raise ListenError(f"cannot listen on {address}:{port}: {error.strerror}; {cure}") from None
    sock.setblocking(False)
    return sock


def bind_unix(path: Path) -> socket.socket:
    """A bound Unix socket that only this user may open; a stale one of a dead server is replaced.

    The caller holds the home's lock, so no living server can be behind the old one.
    """
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_mask = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}; choose a shorter --home") from None
    finally:
        os.umask(old_mask)
    sock.setblocking(False)
    return sock


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the composition root, which drains first.
        yield


async def serve_app(
    app: ASGIApp, sock: socket.socket, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serve ``app`` on ``sock`` until cancelled; then open requests get ``GRACE`` seconds."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = _Server(config)
    task_status.started()
    try:
        await server.serve(sockets=[sock])
    finally:
        server.should_exit = True
        if server.started:
            with anyio.CancelScope(shield=True):
                await server.shutdown(sockets=[sock])
