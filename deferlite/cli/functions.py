"""``deferlite functions ENV``."""

from __future__ import annotations

from typing import Any

import click

from deferlite.cli.client import Server
from deferlite.cli.options import environment_of, json_option, server_option
from deferlite.cli.output import age, print_json, print_table, say


@click.command()
@click.argument("environment", type=environment_of)
@json_option
@server_option
def command(server: Server, as_json: bool, environment: str) -> None:
    """List the functions of an environment's live build."""
    functions = server.get(f"/environments/{environment}/functions")["data"]
    if as_json:
        print_json(functions)
        return
    active = [function for function in functions if function["active"]]
    columns = ("function", "retries", "concurrency", "cron", "next run", "queued", "running", "failed")
    print_table(columns, map(_row, active))
    if not active:
        say(f"{environment} has no functions: `deferlite builds {environment}` shows whether a build is live")


def _row(function: dict[str, Any]) -> tuple[str, ...]:
    options, counts = function["options"], function["counts"]
    return (
        function["name"],
        str(options["retry"]["max_attempts"]),
        str(options["concurrency"] or "-"),
        " ".join(filter(None, (options["cron"], options["timezone"]))) if options["cron"] else "-",
        age(function["next_cron_at"]) or "-",
        str(counts.get("created", 0)),
        str(counts.get("started", 0) + counts.get("aborting", 0)),
        str(counts.get("failed", 0)),
    )
