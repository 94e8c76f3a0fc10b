"""``deferlite executions ENV``."""

from __future__ import annotations

from typing import Any

import click

from deferlite.cli.client import Server
from deferlite.cli.options import environment_of, json_option, pair_of, server_option
from deferlite.cli.output import age, lasted, print_json, print_table, say
from deferlite.model.execution import ErrorCode, State


@click.command()
@click.argument("environment", type=environment_of)
@click.option("--state", multiple=True, type=click.Choice([state.value for state in State]), help="Repeatable.")
@click.option("--function", multiple=True, metavar="NAME", help="Repeatable.")
@click.option("--error-code", multiple=True, type=click.Choice([code.value for code in ErrorCode]), help="Repeatable.")
@click.option("--metadata", multiple=True, type=pair_of, metavar="KEY=VALUE", help="Repeatable.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
@click.option("--after", metavar="CURSOR", help="The page after this cursor (printed with a full page).")
@json_option
@server_option
def command(
    server: Server,
    environment: str,
    state: tuple[str, ...],
    function: tuple[str, ...],
    error_code: tuple[str, ...],
    metadata: tuple[tuple[str, str], ...],
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """List an environment's executions, newest first."""
    query: dict[str, str | int | list[str] | None] = {
        "environment": environment,
        "state": list(state),
        "function": list(function),
        "error_code": list(error_code),
        "metadata": [f"{key}={value}" for key, value in metadata],
        "first": limit,
        "after": after,
    }
    page = server.get("/executions", query)
    if as_json:
        print_json(page)
        return
    print_table(("id", "function", "state", "attempt", "created", "took", "error"), map(_row, page["data"]))
    if page["page_info"]["has_next_page"]:
        say(f"more: --after {page['page_info']['end_cursor']}")


def _row(execution: dict[str, Any]) -> tuple[str, ...]:
    return (
        execution["id"],
        execution["function_name"],
        execution["state"],
        str(execution["attempt"]),
        age(execution["created_at"]),
        took(execution),
        execution["error_code"] or "",
    )


def took(execution: dict[str, Any]) -> str:
    """How long the newest attempt ran, or has been running; ``-`` while none does."""
    if execution["state"] == "created" or not execution["started_at"]:
        return "-"
    return lasted(execution["started_at"], execution["finished_at"])
