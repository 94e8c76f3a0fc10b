"""A server of the Defer API that answers what a test tells it to, on a real socket."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deferlite.sdk import transport

Reply = tuple[int, dict[str, str], bytes]


def json_reply(status: int, data: Any, **headers: str) -> Reply:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(data).encode()


def execution(number: int = 1, state: str = "created") -> dict[str, Any]:
    moment = "2026-01-02T03:04:05.123456Z"
    return {
        "id": f"e{number}",
        "state": state,
        "function_name": "work",
        "function_id": "f1",
        "scheduled_at": moment,
        "created_at": moment,
        "updated_at": "2026-01-02T03:04:05Z",
        "attempt": 1,
        "a_field_of_tomorrow": [],
    }


class Server:
    """Answers with what a test put in ``replies``, or by ``answer``; remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.connections: set[int] = set()
        self.replies: list[Reply | Callable[[BaseHTTPRequestHandler], None]] = []
        self.answer: Callable[[str, str, Any], Reply] | None = None
        self.lock = threading.Lock()
        self.http: ThreadingHTTPServer

    def reply_to(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        with self.lock:
            self.connections.add(id(handler))
            self.requests.append((handler.command, handler.path, dict(handler.headers), body))
            reply = self.replies.pop(0) if self.replies else None
        if reply is None:
            assert self.answer is not None, f"unexpected {handler.command} {handler.path}"
            reply = self.answer(handler.command, handler.path, body)
        if callable(reply):
            reply(handler)
            return
        status, headers, data = reply
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    @property
    def bodies(self) -> list[Any]:
        return [request[3] for request in self.requests]

    @property
    def targets(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.requests]


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None: ...


@contextmanager
def serving(server: Server, certificate: Path | None = None, key: Path | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def reply(self) -> None:
            server.reply_to(self)

        do_GET = do_PUT = do_POST = do_PATCH = reply

        def log_message(self, *_: Any) -> None: ...

    with QuietServer(("127.0.0.1", 0), Handler) as http:
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            http.socket = context.wrap_socket(http.socket, server_side=True)
            scheme = "https"
        server.http = http
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{scheme}://127.0.0.1:{http.server_address[1]}"
        finally:
            transport.close_idle()
            http.shutdown()
            thread.join()
