"""``deferlite execution show|logs|cancel|rerun|reschedule ID``."""

from __future__ import annotations

import json
from typing import Any

import click

from deferlite.cli.client import Server
from deferlite.cli.enqueue import moment_after
from deferlite.cli.executions import took
from deferlite.cli.options import id_of, json_option, server_option
from deferlite.cli.output import age, lasted, print_fields, print_json, print_line, print_log, print_table, say

_OK = 200


@click.group()
def command() -> None:
    """Look at one execution, stop it or run it again."""


@command.command()
@click.argument("id", type=id_of, metavar="ID")
@json_option
@server_option
def show(server: Server, as_json: bool, id: str) -> None:
    """Show an execution: arguments, result or error, attempts, children."""
    execution = _read(server, id)
    if as_json:
        print_json(execution)
        return
    print_fields(_fields(execution))
    if len(execution["attempts"]) > 1:
        click.echo()
        print_table(("attempt", "state", "started", "took", "error"), map(_attempt, execution["attempts"]))
    for child in execution["children"]:
        print_line(f"child: {child['id']}\t{child['function_name']}\t{child['state']}")


def _read(server: Server, id: str) -> dict[str, Any]:
    path = f"/executions/{id}"
    result = server.request("GET", f"{path}/result")
    return {
        **server.get(path)["data"],
        **server.get(f"{path}/arguments"),
        "result": result.json() if result.status_code == _OK else None,
        "attempts": server.get(f"{path}/attempts")["data"],
        "children": server.get(f"{path}/children")["data"],
    }


def _fields(execution: dict[str, Any]) -> list[tuple[str, str]]:
    ended = execution["state"] in ("succeed", "failed")
    return [
        ("id", execution["id"]),
        ("function", f"{execution['function_name']} ({execution['environment']})"),
        ("state", execution["state"]),
        ("error code", execution["error_code"] or ""),
        ("waits", execution.get("waits_for") or ""),
        ("created", f"{execution['created_at']} ({age(execution['created_at'])})"),
        ("scheduled", f"{execution['scheduled_at']} ({age(execution['scheduled_at'])})"),
        ("took", took(execution)),
        ("attempt", str(execution["attempt"])),
        ("interrupted", str(execution["interruptions"] or "")),
        ("build", execution["build_id"] or ""),
        ("parent", execution["parent_id"] or ""),
        ("re-run of", execution["rerun_of"] or ""),
        ("metadata", ", ".join(f"{key}={value}" for key, value in execution["metadata"].items())),
        ("arguments", json.dumps(execution["arguments"], ensure_ascii=False)),
        ("keywords", json.dumps(execution["keyword_arguments"]) if execution["keyword_arguments"] else ""),
        ("result", _result(execution) if ended else ""),
    ]


def _result(execution: dict[str, Any]) -> str:
    result = execution["result"]
    if execution["state"] == "failed" and isinstance(result, dict):
        return str(result.get("stack") or f"{result.get('name')}: {result.get('message')}").strip()
    return json.dumps(result, ensure_ascii=False)


def _attempt(attempt: dict[str, Any]) -> tuple[str, ...]:
    error = (attempt["error_code"] or "") + (" interrupted" if attempt["interrupted"] else "")
    duration = lasted(attempt["started_at"], attempt["finished_at"])
    return str(attempt["number"]), attempt["state"], age(attempt["started_at"]), duration, error


@command.command()
@click.argument("id", type=id_of, metavar="ID")
@click.option("--follow/--no-follow", default=True, help="Follow it while the execution runs.")
@json_option
@server_option
def logs(server: Server, as_json: bool, follow: bool, id: str) -> None:
    """Print an execution's log: stdout, stderr and logging, line by line."""
    print_log(server.lines(f"/executions/{id}/logs", {"follow": 1 if follow else None}), as_json)


@command.command()
@click.argument("id", type=id_of, metavar="ID")
@click.option("--force", is_flag=True, help="Also when it runs already: its processes are ended.")
@json_option
@server_option
def cancel(server: Server, as_json: bool, force: bool, id: str) -> None:
    """Cancel an execution that has not started; with --force abort one that runs."""
    answer = server.post(f"/executions/{id}/cancel", {"force": force})
    if "data" in answer:
        _tell(answer["data"], as_json)
    else:
        say(answer["message"])


@command.command()
@click.argument("id", type=id_of, metavar="ID")
@json_option
@server_option
def rerun(server: Server, as_json: bool, id: str) -> None:
    """Run it again as a new execution with the same arguments. Prints the new one's id."""
    execution = server.post(f"/executions/{id}/rerun")["data"]
    print_json(execution) if as_json else click.echo(execution["id"])


@command.command()
@click.argument("id", type=id_of, metavar="ID")
@click.option(
    "--delay",
    "schedule_for",
    type=moment_after,
    metavar="DURATION",
    help="How long from now, such as 1h; default: now.",
)
@json_option
@server_option
def reschedule(server: Server, as_json: bool, schedule_for: str | None, id: str) -> None:
    """Move the start of an execution that has not started: to now, or by --delay."""
    _tell(server.post(f"/executions/{id}/reschedule", {"schedule_for": schedule_for})["data"], as_json)


def _tell(execution: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(execution)
        return
    when = f", starts {age(execution['scheduled_at'])}" if execution["state"] == "created" else ""
    say(f"{execution['function_name']} is {execution['state']}{when}")
