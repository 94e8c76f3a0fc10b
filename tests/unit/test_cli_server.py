"""The command line against a real server on a Unix socket: real application, real store, no scheduler."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from click.testing import CliRunner, Result

from deferlite.bus import Bus
from deferlite.cli.app import cli
from deferlite.model.events import ExecutionsEnqueued
from deferlite.model.execution import Ending, LogLine, Outcome, error_result
from deferlite.model.ids import new_id
from tests.unit.cli_fixtures import KEY, end, enqueue, returned, server, start

pytestmark = pytest.mark.anyio


async def test_lists_for_people_and_for_programs(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        id = await enqueue(store, metadata={"user": "7"})
        (row,) = [line.split("\t") for line in (await run("environments")).stdout.splitlines()]
        assert row[:5] == ["production", "live", "#1", "cccccccc", "1"]
        (row,) = [line.split("\t") for line in (await run("builds", "production")).stdout.splitlines()]
        assert row[:4] == ["#1", "live", "cccccccc", "x"]
        rows = [line.split("\t") for line in (await run("functions", "production")).stdout.splitlines()]
        assert [row[0] for row in rows] == ["digest", "hello"]
        assert rows[0][3] == "0 8 * * * Europe/Paris"
        (row,) = [line.split("\t") for line in (await run("executions", "production")).stdout.splitlines()]
        assert row[:4] == [id, "hello", "created", "0"]
        for words in (("environments",), ("builds", "production"), ("functions", "production")):
            assert isinstance(json.loads((await run(*words, "--json")).stdout), list)
        shown = json.loads((await run("executions", "production", "--json")).stdout)
        assert [each["id"] for each in shown["data"]] == [id]


async def test_a_fault_of_a_file_is_talk_and_not_data(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        await store.environments.reject("production", "production.toml, line 2: wrong", "production.toml")
        result = await run("environments")
        assert result.stdout.split("\t")[1] == "broken file"
        assert "production: production.toml, line 2: wrong" in result.stderr


async def test_executions_are_filtered_and_paged(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        ids = [await enqueue(store, metadata={"user": str(n % 2)}) for n in range(4)]
        result = await run("executions", "production", "--metadata", "user=1", "--state", "created", "--limit", "1")
        assert result.stdout.startswith(ids[3])
        cursor = result.stderr.strip().removeprefix("more: --after ")
        more = await run("executions", "production", "--metadata", "user=1", "--limit", "1", "--after", cursor)
        assert more.stdout.startswith(ids[1])
        assert (await run("executions", "production", "--error-code", "ER0001")).stdout == ""
        assert (await run("executions", "production", "--after", "x")).exit_code == 1


async def test_what_is_not_there_fails_with_its_name(tmp_path: Path) -> None:
    async with server(tmp_path) as (_, run):
        for command in ("builds", "functions", "executions", "build", "rollback"):
            result = await run(command, "nowhere")
            assert (result.exit_code, result.stdout) == (1, "")
            assert "nowhere" in result.stderr
        assert (await run("execution", "show", new_id(0))).exit_code == 1
        assert (await run("builds", "logs", "production#9")).exit_code == 1


async def test_enqueue_prints_the_id(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        words = ("1", '{"a": [null, "b"]}', "-k", "dry=true", "-m", "user=7", "--delay", "1h", "--priority", "-5")
        result = await run("enqueue", "production", "hello", *words)
        execution = await store.executions.get("production", result.stdout.strip())
        assert (execution.metadata, execution.priority) == ({"user": "7"}, -5)
        assert 3500e6 < execution.scheduled_at - execution.created_at < 3700e6
        arguments, keywords = await store.executions.arguments(execution.id)
        assert (json.loads(arguments), json.loads(keywords)) == ([1, {"a": [None, "b"]}], {"dry": True})
        unknown = await run("enqueue", "production", "nope")
        assert (unknown.exit_code, unknown.stdout) == (1, "")
        assert 'cannot find function "nope"' in unknown.stderr


async def test_negative_numbers_are_arguments(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        result = await run("enqueue", "production", "hello", "-1", "-2.5")
        assert await store.executions.arguments(result.stdout.strip()) == ("[-1,-2.5]", "{}")


async def test_enqueue_waits_for_the_result(tmp_path: Path) -> None:
    bus = Bus()
    async with server(tmp_path, bus) as (store, run):
        results: list[Result] = []

        async def wait() -> None:
            results.append(await run("enqueue", "production", "hello", "--wait"))

        for outcome in (
            returned('{"said":"hello"}'),
            Outcome(ending=Ending.RAISED, result=error_result("ValueError", "no", "Traceback …\nValueError: no")),
        ):
            with bus.subscribe(ExecutionsEnqueued) as enqueued:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(wait)
                    await enqueued.receive()
                    await end(store, await start(store), outcome)
        good, bad = results
        assert (good.exit_code, json.loads(good.stdout)) == (0, {"said": "hello"})
        assert (bad.exit_code, bad.stdout) == (1, "")
        assert "ValueError: no" in bad.stderr
        assert "ER0003" in bad.stderr


async def test_one_execution(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        id = await enqueue(store, arguments='["acme"]')
        child = await enqueue(store, parent_id=id)
        await store.logs.append(id, 1, [LogLine(0, "stdout", "\x1b[31mone\x1b[0m"), LogLine(0, "stderr", "two")])
        assert "waits:" in (await run("execution", "show", id)).stdout
        await end(store, await start(store), returned("[1,2]"))
        shown = (await run("execution", "show", id)).stdout
        for part in ("succeed", '["acme"]', "[1, 2]", child):
            assert part in shown
        as_json = json.loads((await run("execution", "show", id, "--json")).stdout)
        assert (as_json["result"], as_json["arguments"]) == ([1, 2], ["acme"])
        assert (await run("execution", "logs", id)).stdout == "00:00:00.000 one\n00:00:00.000 two\n"
        lines = [json.loads(line) for line in (await run("execution", "logs", id, "--json")).stdout.splitlines()]
        assert [(line["attempt"], line["stream"]) for line in lines] == [(1, "stdout"), (1, "stderr")]


async def test_cancel_rerun_and_reschedule(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        id = (await run("enqueue", "production", "hello", "--delay", "1h")).stdout.strip()
        before = (await store.executions.get(None, id)).scheduled_at
        assert (await run("execution", "reschedule", id, "--delay", "2h")).exit_code == 0
        assert (await store.executions.get(None, id)).scheduled_at > before
        assert (await run("execution", "cancel", id)).exit_code == 0
        again = await run("execution", "cancel", id)
        assert again.exit_code == 1
        assert "cancelled" in again.stderr
        rerun = (await run("execution", "rerun", id)).stdout.strip()
        assert (await store.executions.get(None, rerun)).rerun_of == id


async def test_abort_twice_is_said_and_no_failure(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        id = await enqueue(store)
        await start(store)
        assert (await run("execution", "cancel", id)).exit_code == 1
        first = await run("execution", "cancel", id, "--force")
        second = await run("execution", "cancel", id, "--force")
        assert (first.exit_code, second.exit_code) == (0, 0)
        assert "abort" in second.stderr


async def test_tokens_are_shown_once(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):
        token = (await run("token", "create", "production", "--name", "shop")).stdout.strip()
        assert await store.tokens.verify(token) == "production"
        listed = (await run("token", "list", "production")).stdout
        assert "shop" in listed
        assert token not in listed
        assert (await run("token", "revoke", "production", listed.split("\t")[0])).exit_code == 0
        assert await store.tokens.verify(token) is None
        assert (await run("token", "revoke", "production", new_id(0))).exit_code == 1


async def test_open_prints_the_address_with_the_key(tmp_path: Path) -> None:
    async with server(tmp_path) as (_, run):
        result = await run("open", "--no-browser")
        assert result.stdout == f"http://127.0.0.1:3337/?key={KEY}\n"


async def test_a_server_that_has_gone_is_no_server(tmp_path: Path) -> None:
    async with server(tmp_path) as (_, run):
        assert (await run("environments")).exit_code == 0
    result = await anyio.to_thread.run_sync(CliRunner().invoke, cli, ("environments", "--home", str(tmp_path)))
    assert result.exit_code == 3
