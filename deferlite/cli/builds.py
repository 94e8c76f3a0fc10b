"""``deferlite builds ENV`` and ``deferlite builds logs ID``."""

from __future__ import annotations

from typing import Any

import click

from deferlite.cli.client import Server
from deferlite.cli.errors import Failure
from deferlite.cli.options import id_of, json_option, server_option
from deferlite.cli.output import age, lasted, print_json, print_log, print_table


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="ENV | logs ID")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many builds.")
@click.option("--follow/--no-follow", default=True, help="Follow a log while its build runs.")
@json_option
@server_option
@click.pass_context
def command(
    ctx: click.Context, server: Server, as_json: bool, follow: bool, limit: int, words: tuple[str, ...]
) -> None:
    """List an environment's builds, or print a build's log.

    ID is a build's id, or ENV#NUMBER as the list shows it. Following a build that fails ends with exit code 1.
    """
    match words:
        case (environment,):
            _list(server, environment, limit, as_json)
        case ("logs", build):
            found = server.get(f"/builds/{find_build(ctx, server, build)}")["data"]
            print_build_log(server, found, follow=follow, as_json=as_json)
        case _:
            raise click.UsageError("write `deferlite builds ENV` or `deferlite builds logs ID`", ctx)


def _list(server: Server, environment: str, limit: int, as_json: bool) -> None:
    builds = server.get(f"/environments/{environment}/builds", {"limit": limit})["data"]
    if as_json:
        print_json(builds)
        return
    columns = ("build", "state", "commit", "subject", "why", "created", "took", "id")
    print_table(columns, map(_row, builds))
    for build in builds[:1]:
        if build["error"]:
            click.echo(f"#{build['number']} failed: {build['error']}", err=True)


def _row(build: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"#{build['number']}",
        "live" if build["live"] else build["state"],
        (build["commit"] or "-")[:8],
        build["message"][:50],
        build["trigger"],
        age(build["created_at"]),
        lasted(build["started_at"], build["finished_at"]) or "-",
        build["id"],
    )


def find_build(ctx: click.Context, server: Server, text: str) -> str:
    """The id of the build that ``text`` names: an id itself, or ``ENV#NUMBER``."""
    environment, hash_sign, number = text.rpartition("#")
    if not hash_sign:
        return id_of(text)
    if not (environment and number.isdecimal()):
        raise click.UsageError(f"{text!r} is not a build: write its id, or ENV#NUMBER", ctx)
    query = {"limit": 1, "before": int(number) + 1}
    for build in server.get(f"/environments/{environment}/builds", query)["data"]:
        if build["number"] == int(number):
            return str(build["id"])
    raise Failure(f"{environment} has no build #{number}")


def print_build_log(server: Server, build: dict[str, Any], *, follow: bool, as_json: bool = False) -> None:
    """Print the log of ``build``, as the server told of it; with ``follow`` until it has ended.

    Raises:
        Failure: the build it followed failed; not for one that had ended before.
    """
    path = f"/builds/{build['id']}"
    print_log(server.lines(f"{path}/logs", {"follow": 1 if follow else None}), as_json)
    if not follow or build["finished_at"]:
        return
    build = server.get(path)["data"]
    if build["state"] == "failed":
        raise Failure(f"build #{build['number']} of {build['environment']} failed: {build['error']}")
