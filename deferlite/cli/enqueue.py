"""``deferlite enqueue ENV FUNCTION [JSON_ARG…]``."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn

import click

from deferlite.cli.client import Server
from deferlite.cli.errors import Failure
from deferlite.cli.options import environment_of, json_option, pair_of, server_option
from deferlite.cli.output import print_json, print_json_text, say
from deferlite.sdk.durations import parse_duration

_WAIT = 30
"""Seconds the server is asked to wait in one call."""
_NO_CONTENT, _ACCEPTED = 204, 202


def moment_after(text: str) -> str:
    """For ``type=``: a duration such as 1h, as a moment that far from now in RFC 3339."""
    try:
        ahead = timedelta(seconds=parse_duration(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return (datetime.now(timezone.utc) + ahead).isoformat().replace("+00:00", "Z")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("environment", type=environment_of)
@click.argument("function")
@click.argument("arguments", nargs=-1, metavar="[JSON_ARG]...")
@click.option("--keyword", "-k", multiple=True, type=pair_of, metavar="NAME=JSON", help="A keyword argument.")
@click.option(
    "--delay", "schedule_for", type=moment_after, metavar="DURATION", help="Start no sooner than this, such as 1h."
)
@click.option(
    "--discard-after", type=moment_after, metavar="DURATION", help="Discard it if it has not started by then."
)
@click.option("--metadata", "-m", multiple=True, type=pair_of, metavar="KEY=VALUE", help="Repeatable.")
@click.option("--priority", type=click.IntRange(-100, 100), help="Higher runs first.")
@click.option("--wait", is_flag=True, help="Wait and print the result; exit 1 if it failed.")
@json_option
@server_option
def command(
    server: Server,
    environment: str,
    function: str,
    arguments: tuple[str, ...],
    keyword: tuple[tuple[str, str], ...],
    schedule_for: str | None,
    discard_after: str | None,
    metadata: tuple[tuple[str, str], ...],
    priority: int | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Enqueue a function; arguments are JSON.

    Prints the execution's id, or with --wait its result. A text in JSON has quotes of its own:

    \b
    deferlite enqueue staging greet '"Ada"'
    """
    body = {
        "function_name": function,
        "function_arguments": [_json(text, f"argument {n}") for n, text in enumerate(arguments, 1)],
        "keyword_arguments": {name: _json(text, name) for name, text in keyword} or None,
        "schedule_for": schedule_for,
        "discard_after": discard_after,
        "metadata": dict(metadata) or None,
        "priority": priority,
    }
    given = {name: value for name, value in body.items() if value is not None}
    execution = server.put(f"/environments/{environment}/executions", given)["data"]
    if wait:
        _finish(server, execution["id"])
    elif as_json:
        print_json(execution)
    else:
        click.echo(execution["id"])


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        example = json.dumps(text)
        raise click.UsageError(f"{where}: {text!r} is not JSON; for a text write '{example}'") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finish(server: Server, execution_id: str) -> None:
    """Wait for the end, and print the result.

    Raises:
        Failure: it did not succeed.
    """
    say(f"waiting for {execution_id}")
    path, query = f"/executions/{execution_id}/result", {"wait": _WAIT}
    while (answer := server.request("GET", path, query=query)).status_code == _ACCEPTED:
        pass
    execution = server.get(f"/executions/{execution_id}")["data"]
    if execution["state"] == "succeed":
        print_json_text(answer.text)
        return
    if answer.status_code != _NO_CONTENT:
        error = answer.json()
        say(error.get("stack") or f"{error.get('name')}: {error.get('message')}")
    code = f" ({execution['error_code']})" if execution["error_code"] else ""
    raise Failure(f"{execution['function_name']} ended as {execution['state']}{code}: {execution_id}")
