"""The public API over a real socket: what an in-process client cannot show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from starlette.applications import Starlette

from deferlite.bus import Bus
from deferlite.model.events import ParentParked, ParentReady
from deferlite.web.listen import bind_tcp, serve_app
from deferlite.web.services import Services

pytestmark = pytest.mark.anyio

E = "/public/v2/executions"
MIB = 1024 * 1024


@pytest.fixture
async def port(app: Starlette) -> AsyncIterator[int]:
    sock = bind_tcp("127.0.0.1", 0)
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda task_status: serve_app(app, sock, task_status=task_status))
        yield sock.getsockname()[1]
        tasks.cancel_scope.cancel()


@pytest.fixture
async def served(port: int, token: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", auth=("", token), timeout=30) as made:
        yield made


async def raw(port: int, head: str, body: bytes) -> bytes:
    """The status line that a request of these bytes is answered with."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        return await BufferedByteReceiveStream(stream).receive_until(b"\r\n", 1000)


async def test_from_enqueue_to_result(served: httpx.AsyncClient, stand_in: Any) -> None:
    made = (await served.put(E, json={"function_name": "hello", "function_arguments": ["é"]})).json()["data"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stand_in.succeed, "hello", {"total": 1})
        answer = await served.get(f"{E}/{made['id']}/results", params={"wait": 10})
    assert (answer.status_code, answer.json()) == (200, {"total": 1})
    assert (await served.head(f"{E}/{made['id']}/results")).content == b""


async def test_a_large_body_is_refused_and_the_connection_stays_good(served: httpx.AsyncClient) -> None:
    for _ in range(2):
        answer = await served.put(E, content=b"x" * (8 * MIB))
        assert (answer.status_code, answer.json()["error"]) == (413, "payload_too_large")
    assert (await served.put(E, json={"function_name": "hello"})).status_code == 201


async def test_a_chunked_body_is_cut_off(port: int, token: str) -> None:
    head = f"PUT {E} HTTP/1.1\nHost: localhost\nAuthorization: Bearer {token}\nTransfer-Encoding: chunked\n"
    chunk = b"%x\r\n" % (256 * 1024) + b"x" * (256 * 1024) + b"\r\n"
    assert await raw(port, head, chunk * 6) == b"HTTP/1.1 413 Request Entity Too Large"


async def test_an_empty_body_over_the_socket(port: int, token: str) -> None:
    head = f"POST {E} HTTP/1.1\nHost: localhost\nAuthorization: Bearer {token}\n"
    assert await raw(port, head, b"") == b"HTTP/1.1 200 OK"


async def test_a_parent_that_hangs_up_is_ready_again(
    served: httpx.AsyncClient, port: int, services: Services, stand_in: Any, bus: Bus
) -> None:
    await served.put(E, json={"function_name": "hello"})
    (claimed,) = await stand_in.start("hello")
    child = (await served.put(E, json={"function_name": "add"})).json()["data"]["id"]
    token = services.execution_tokens.issue(claimed.id, claimed.attempt)
    request = f"GET {E}/{child}/results?wait=60 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    with anyio.fail_after(10), bus.subscribe(ParentParked, ParentReady) as events:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(request.encode())
            assert isinstance(await events.receive(), ParentParked)
        assert isinstance(await events.receive(), ParentReady)
