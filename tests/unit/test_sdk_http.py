"""The HTTP backend against a real server on a real socket."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import deferlite
from deferlite import (
    BadRequest,
    ConfigurationError,
    Conflict,
    ExecutionCancelled,
    ExecutionFailed,
    NotFound,
    PayloadTooLarge,
    ResultNotReady,
    ServerUnavailable,
    Unauthorized,
    await_result,
    defer,
)
from deferlite.sdk import client
from tests.defer_api import Reply, Server, execution, json_reply, serving
from tests.support import missing

pytestmark = pytest.mark.anyio

TOKEN = "dlt_secret"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    with serving(made) as address:
        monkeypatch.setenv("DEFER_ENDPOINT", address)
        monkeypatch.setenv("DEFER_TOKEN", TOKEN)
        yield made


@defer
def work(number: int = 1, **more: Any) -> int:
    return number


@defer
async def awork(number: int = 1) -> int:
    return number


def created(number: int = 1) -> Reply:
    return json_reply(201, {"data": execution(number)})


async def call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await fn(*args, **kwargs)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def test_an_enqueue_on_the_wire(server: Server) -> None:
    server.replies = [created()]
    made = work.options(
        delay="1h",
        discard_after="2h",
        metadata={"user": "7"},
        priority=3,
        idempotency_key="mine",
        concurrency_key="acme",
    )(1, name="Zoë")
    assert (made.id, made.state, made.attempt) == ("e1", "created", 1)
    assert made.scheduled_at.microsecond == 123456 and made.scheduled_at.utcoffset() is not None
    [(method, path, headers, body)] = server.requests
    assert (method, path) == ("PUT", "/public/v2/executions")
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert body.pop("schedule_for") < body.pop("discard_after")
    assert body == {
        "function_name": "work",
        "function_arguments": [1],
        "keyword_arguments": {"name": "Zoë"},
        "metadata": {"user": "7"},
        "priority": 3,
        "idempotency_key": "mine",
        "concurrency_key": "acme",
    }


def test_a_plain_call_sends_no_more_than_it_must(server: Server) -> None:
    server.replies = [created(1), created(2)]
    work(1)
    asyncio.run(call(awork, 2))
    keys = {body.pop("idempotency_key") for body in server.bodies}
    assert len(keys) == 2
    assert server.bodies == [
        {"function_name": "work", "function_arguments": [1]},
        {"function_name": "awork", "function_arguments": [2]},
    ]


def test_many_go_in_one_request(server: Server) -> None:
    server.replies = [json_reply(201, {"data": [execution(1), execution(2)]})]
    assert [made.id for made in work.enqueue_many([(1,), (2,)])] == ["e1", "e2"]
    assert server.targets == ["PUT /public/v2/executions/batch"]
    items = server.bodies[0]["executions"]
    assert [item["function_arguments"] for item in items] == [[1], [2]]
    assert len({item["idempotency_key"] for item in items}) == 2
    assert work.enqueue_many([]) == []


def test_a_long_batch_goes_without_keys_and_once(server: Server) -> None:
    server.replies = [created(), hang_up]
    work(1)
    with pytest.raises(ServerUnavailable, match="look before asking again"):
        work.enqueue_many([(n,) for n in range(1001)])
    assert len(server.requests) == 2
    assert server.bodies[1]["executions"][7] == {"function_name": "work", "function_arguments": [7]}


def test_variables_are_read_at_the_call(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.replies = [created(), created()]
    monkeypatch.setenv("DEFER_TOKEN", " other\n")
    monkeypatch.setenv("DEFER_ENDPOINT", os.environ["DEFER_ENDPOINT"] + "/base/")
    work(1)
    _, path, headers, _ = server.requests[0]
    assert path == "/base/public/v2/executions"
    assert headers["Authorization"] == "Bearer other"


def test_connections_are_kept(server: Server) -> None:
    server.answer = lambda *_: created()
    for _ in range(5):
        work(1)
    assert len(server.connections) == 1


def test_threads_do_not_share_a_connection(server: Server) -> None:
    server.answer = lambda method, path, body: created(body["function_arguments"][0])
    found: list[bool] = []

    def several(number: int) -> None:
        found.extend(work(number).id == f"e{number}" for _ in range(20))

    threads = [threading.Thread(target=several, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 160
    assert len(server.connections) <= 8


def test_an_idle_connection_that_was_closed_is_replaced(server: Server) -> None:
    server.replies = [created(1), hang_up, created(2)]
    work(1)
    assert work(2).id == "e2"
    # Sent twice with the same key, the server takes it once.
    assert server.bodies[1] == server.bodies[2]


def test_a_rerun_is_never_sent_twice(server: Server) -> None:
    server.replies = [created(1), hang_up]
    work(1)
    with pytest.raises(ServerUnavailable, match="look before asking again"):
        deferlite.rerun_execution("e1")
    assert len(server.requests) == 2


def test_a_server_that_closes_after_each_answer(server: Server) -> None:
    status, _, data = created()
    server.answer = lambda *_: (status, {"Connection": "close"}, data)
    assert [work(1).id, work(1).id] == ["e1", "e1"]
    assert len(server.connections) == 2


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_opens_connections_of_its_own(server: Server) -> None:
    server.answer = lambda *_: created()
    work(1)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work(1).id == "e1" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    work(1)
    assert len(server.connections) == 2


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("DEFER_ENDPOINT", address)
        monkeypatch.setenv("DEFER_TOKEN", TOKEN)
        for call in (lambda: work(1), lambda: deferlite.get_execution_result("e1")):
            with pytest.raises(ServerUnavailable) as caught:
                call()
            assert f"no deferlite server answers at {address}" in str(caught.value)
            assert "is `deferlite serve` running? DEFER_ENDPOINT says where" in str(caught.value)
            assert TOKEN not in str(caught.value)


def test_a_server_that_says_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    server.replies = [lambda _: (done.wait(10), None)[1]]
    monkeypatch.setattr(client, "_TIMEOUT", 0.05)
    with pytest.raises(ServerUnavailable, match=r"did not answer within 0\.05 seconds"):
        deferlite.get_execution("e1")
    done.set()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        missing("openssl, which makes the certificate of this test")
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(command, check=True, capture_output=True)
    return paths


def test_https(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    server.answer = lambda *_: created()
    with serving(server, *certificate) as address:
        monkeypatch.setenv("DEFER_ENDPOINT", address)
        monkeypatch.setenv("DEFER_TOKEN", TOKEN)
        with pytest.raises(ServerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            work(1)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert [work(1).id, work(2).id] == ["e1", "e1"]
        assert len(server.connections) == 1


@pytest.mark.parametrize(
    "endpoint",
    [
        "jobs.example.org",
        "ftp://x",
        "http://",
        "http://me:hidden@host",
        "http://host:port",
        "http://host/?q",
        "http://a b",
        "http://[",
    ],
)
def test_endpoints_that_are_none(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFER_ENDPOINT", endpoint)
    monkeypatch.setenv("DEFER_TOKEN", TOKEN)
    with pytest.raises(ConfigurationError, match="DEFER_ENDPOINT is the address") as caught:
        work(1)
    assert "hidden" not in str(caught.value)


def test_a_token_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFER_TOKEN", "top\r\nsecret")
    with pytest.raises(ConfigurationError, match="DEFER_TOKEN holds characters") as caught:
        work(1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, BadRequest, "the reason"),
        (401, Unauthorized, "the reason .*deferlite token create"),
        (404, NotFound, "the reason"),
        (409, Conflict, "the reason"),
        (413, PayloadTooLarge, "the reason .*pass its key"),
        (503, ServerUnavailable, "the reason"),
    ],
)
def test_refusals(server: Server, status: int, kind: type[deferlite.ApiError], words: str) -> None:
    server.replies = [json_reply(status, {"error": "a_code", "message": "the reason"})]
    with pytest.raises(kind, match=words) as caught:
        work(1)
    assert (caught.value.status, caught.value.code) == (status, "a_code")
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), kind)


def test_somebody_else_s_server(server: Server) -> None:
    server.replies = [
        (502, {}, b"<html>bad gateway</html>"),
        (200, {}, b"<html>hello</html>"),
        json_reply(200, {"hello": 1}),
    ]
    with pytest.raises(ServerUnavailable, match="what answers at DEFER_ENDPOINT said 502 without a reason"):
        work(1)
    for _ in range(2):
        with pytest.raises(deferlite.ApiError, match="what answers at DEFER_ENDPOINT is no deferlite server"):
            work(1)


def test_waiting_for_a_result(server: Server) -> None:
    server.replies = [created(), json_reply(202, {}), json_reply(200, {"n": 42}, Deferlite_State="succeed")]
    found: object = await_result(work)(1)
    assert found == {"n": 42}
    assert server.targets[1:] == ["GET /public/v2/executions/e1/results?wait=30"] * 2


async def test_a_coroutine_that_waits_leaves_the_loop_free(server: Server) -> None:
    release, arrivals = threading.Event(), threading.Semaphore(0)

    def answer(method: str, path: str, body: Any) -> Reply:
        if method == "PUT":
            return created()
        arrivals.release()
        assert release.wait(10)
        return json_reply(200, 42, Deferlite_State="succeed")

    server.answer = answer
    waiting = asyncio.gather(*(await_result(awork)(1) for _ in range(20)))
    for _ in range(20):  # all of them wait at once
        assert await asyncio.to_thread(arrivals.acquire, timeout=10)
    release.set()
    assert await waiting == [42] * 20


def test_the_result_null_is_a_result(server: Server) -> None:
    server.replies = [created(), json_reply(200, None, Deferlite_State="succeed")]
    assert await_result(work)(1) is None


def test_a_server_without_the_header_is_asked_for_the_state(server: Server) -> None:
    server.replies = [created(), json_reply(200, 42), json_reply(200, {"data": execution(1, "succeed")})]
    assert await_result(work)(1) == 42


async def test_a_child_s_failure(server: Server) -> None:
    error = {"name": "ValueError", "message": "no good", "stack": "Traceback …"}
    failed = {"data": execution(1, "failed") | {"error_code": "ER0003"}}
    server.replies = [created(), json_reply(200, error, Deferlite_State="failed"), json_reply(200, failed)] * 2
    for caught in (pytest.raises(ValueError), pytest.raises(ExecutionFailed)):
        with caught as raised:
            await await_result(awork)(1)
    found = raised.value
    assert isinstance(found, ExecutionFailed)
    assert (found.name, found.message, found.stack) == ("ValueError", "no good", "Traceback …")
    assert (found.error_code, found.execution.state) == ("ER0003", "failed")
    again = pickle.loads(pickle.dumps(found))
    assert isinstance(again, ValueError) and str(again) == str(found) == "work failed with ValueError: no good"


@pytest.mark.parametrize(
    "name", ["UnicodeDecodeError", "StopIteration", "ExceptionGroup", "KeyboardInterrupt", "a\0b", ""]
)
def test_errors_that_cannot_be_rebuilt_are_still_failures(server: Server, name: str) -> None:
    error = {"name": name, "message": "no good", "stack": ""}
    failed = json_reply(200, {"data": execution(1, "failed")})
    server.replies = [json_reply(200, error, Deferlite_State="failed"), failed]
    with pytest.raises(ExecutionFailed, match="no good"):
        deferlite.get_execution_result("e1")


def test_results_that_never_come(server: Server) -> None:
    server.replies = [(204, {}, b""), json_reply(200, {"data": execution(1, "cancelled")})]
    with pytest.raises(ExecutionCancelled, match=r"work \(e1\) was cancelled") as caught:
        deferlite.get_execution_result("e1")
    assert caught.value.execution.id == "e1"


def test_a_result_that_is_not_there_yet(server: Server) -> None:
    server.answer = lambda *_: json_reply(202, {})
    with pytest.raises(ResultNotReady):
        deferlite.get_execution_result("e1")
    with pytest.raises(ResultNotReady):
        asyncio.run(call(deferlite.aget_execution_result, "e1"))
    assert server.targets == ["GET /public/v2/executions/e1/results?wait=0"] * 2
    with pytest.raises(ResultNotReady):
        deferlite.get_execution_result("e1", wait=0.05)


def test_a_wait_outlives_a_server_that_starts_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PAUSE", 0.01)
    server.replies = [
        created(),
        json_reply(503, {"error": "unavailable", "message": "going down"}),
        hang_up,
        json_reply(200, 42, Deferlite_State="succeed"),
    ]
    assert await_result(work)(1) == 42


def test_patience_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PAUSE", 0.01)
    monkeypatch.setattr(client, "_PATIENCE", 0.05)
    server.answer = lambda *_: json_reply(503, {"error": "unavailable", "message": "going down"})
    began = time.monotonic()
    with pytest.raises(ServerUnavailable, match="going down"):
        deferlite.get_execution_result("e1", wait="1h")
    assert time.monotonic() - began < 5


def test_the_other_calls(server: Server) -> None:
    server.answer = lambda *_: json_reply(200, {"data": execution(1, "started")})
    deferlite.get_execution("e 1/2")
    deferlite.cancel_execution("e1")
    asyncio.run(call(deferlite.acancel_execution, "e1", force=True))
    deferlite.reschedule_execution("e1")
    asyncio.run(call(deferlite.areschedule_execution, "e1", "1h"))
    deferlite.rerun_execution("e1")
    asyncio.run(call(deferlite.aget_execution, "e1"))
    asyncio.run(call(deferlite.arerun_execution, "e1"))
    assert server.targets == [
        "GET /public/v2/executions/e%201%2F2",
        "POST /public/v2/executions/e1/cancellation",
        "POST /public/v2/executions/e1/cancellation",
        "PATCH /public/v2/executions/e1/schedule",
        "PATCH /public/v2/executions/e1/schedule",
        "POST /public/v2/executions/e1/reruns",
        "GET /public/v2/executions/e1",
        "POST /public/v2/executions/e1/reruns",
    ]
    assert server.bodies[1:4] == [{"force": False}, {"force": True}, {}]
    assert server.bodies[4]["schedule_for"].endswith("Z")


def test_an_abort_that_is_under_way_already(server: Server) -> None:
    server.replies = [json_reply(202, {}), json_reply(200, {"data": execution(1, "aborting")})]
    assert deferlite.cancel_execution("e1", force=True).state == "aborting"


def test_lists(server: Server) -> None:
    info = {"has_next_page": True, "has_prev_page": False, "start_cursor": "s", "end_cursor": "e"}
    server.answer = lambda *_: json_reply(200, {"data": [execution(1), execution(2)], "page_info": info})
    page = deferlite.list_executions(
        states=["created"],
        function_ids=["f1"],
        error_codes=["ER0001"],
        executed_by="api",
        metadata={"user": "7", "plan": ["a", "b"]},
        first=2,
        after="c",
    )
    assert [found.id for found in page] == ["e1", "e2"]
    assert (page.has_next_page, page.has_prev_page, page.start_cursor, page.end_cursor) == (True, False, "s", "e")
    asyncio.run(call(deferlite.alist_executions))
    asyncio.run(call(deferlite.alist_execution_attempts, "e1", states=["failed"], last=1))
    assert server.targets == ["POST /public/v2/executions"] * 2 + ["POST /public/v2/executions/e1/attempts"]
    assert server.bodies == [
        {
            "page": {"first": 2, "after": "c"},
            "filters": {
                "states": ["created"],
                "function_ids": ["f1"],
                "error_codes": ["ER0001"],
                "executed_by": "api",
                "metadata": [{"key": "user", "values": ["7"]}, {"key": "plan", "values": ["a", "b"]}],
            },
        },
        {"page": {}, "filters": {}},
        {"page": {"last": 1}, "filters": {"states": ["failed"]}},
    ]
