"""``deferlite environments``."""

from __future__ import annotations

from typing import Any

import click

from deferlite.cli.client import Server
from deferlite.cli.options import json_option, server_option
from deferlite.cli.output import age, print_json, print_table, say


@click.command()
@click.option("--retired", is_flag=True, help="Also those whose file is gone.")
@json_option
@server_option
def command(server: Server, as_json: bool, retired: bool) -> None:
    """List the environments.

    Live build and queue of each; what is wrong with a file is told on stderr.
    """
    environments = server.get("/environments", {"retired": 1 if retired else None})["data"]
    if as_json:
        print_json(environments)
        return
    print_table(
        ("environment", "state", "live build", "commit", "queued", "running", "failed", "live since"),
        map(_row, environments),
    )
    for environment in environments:
        for fault in f"{environment['error'] or ''}\n{environment['problem'] or ''}".split("\n"):
            if fault:
                say(f"{environment['name']}: {fault}")
    if not environments:
        say(f"no environments yet: put a file into {server.home / 'environments'}, or run `deferlite init`")


def _row(environment: dict[str, Any]) -> tuple[str, ...]:
    build, counts = environment["live_build"] or {}, environment["counts"]
    running = counts.get("started", 0) + counts.get("aborting", 0)
    return (
        environment["name"],
        _state(environment),
        f"#{build['number']}" if build else "-",
        (build.get("commit") or "-")[:8],
        str(counts.get("created", 0)),
        str(running),
        str(counts.get("failed", 0)),
        age(build.get("finished_at")) or "-",
    )


def _state(environment: dict[str, Any]) -> str:
    if environment["state"] == "retired":
        return "retired"
    if environment["error"]:
        return "broken"
    if environment["problem"]:
        return "no repository"
    return "live" if environment["live_build"] else "no build"
