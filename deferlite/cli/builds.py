"""``deferlite builds ENV`` and ``deferlite builds show|logs|cancel BUILD``."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from deferlite.cli.client import Server
from deferlite.cli.errors import Failure
from deferlite.cli.following import change_lines, finding_line, name_of, print_build_log, stage_line, state_of
from deferlite.cli.options import environment_of, json_option, server_option
from deferlite.cli.output import age, lasted, print_fields, print_json, print_line, print_table, say
from deferlite.model.ids import InvalidId, is_environment_name, parse_id


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="ENV | show|logs|cancel BUILD")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many builds.")
@click.option("--follow/--no-follow", default=True, help="Follow a log while its build runs.")
@json_option
@server_option
@click.pass_context
def command(
    ctx: click.Context, server: Server, as_json: bool, follow: bool, limit: int, words: tuple[str, ...]
) -> None:
    """List an environment's builds, show one, print its log, or cancel it.

    BUILD is a build's id, or ENV#NUMBER as the list shows it. It may be ENV: its newest build, and for cancel all of
    its builds that have not ended. Following a build that fails ends with exit code 1.
    """
    match words:
        case (environment,):
            _list(server, environment_of(environment), limit, as_json)
        case ("show", text):
            _show(server, _read(ctx, server, text), as_json)
        case ("logs", text):
            print_build_log(server, _read(ctx, server, text), follow=follow, as_json=as_json)
        case ("cancel", text):
            cancel_builds(ctx, server, text, as_json)
        case _:
            raise click.UsageError("write `deferlite builds ENV` or `deferlite builds show|logs|cancel BUILD`", ctx)


def _list(server: Server, environment: str, limit: int, as_json: bool) -> None:
    builds = server.get(f"/environments/{environment}/builds", {"limit": limit})["data"]
    if as_json:
        print_json(builds)
        return
    own = server.get("/status")["version"]
    columns = ("build", "state", "commit", "subject", "why", "created", "took", "id", "builder")
    print_table(columns, map(partial(_row, own), builds))
    for build in builds[:1]:
        if state_of(build) == "failed":
            say(f"#{build['number']} failed: {build['error']}")
        if build["held"]:
            say(f"#{build['number']} is held: `deferlite promote {environment}` makes it live")


def _row(own: str, build: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"#{build['number']}",
        state_of(build),
        (build["commit"] or "-")[:8],
        build["message"][:50],
        build["trigger"],
        age(build["created_at"]),
        lasted(build["started_at"], build["finished_at"]) or "-",
        build["id"],
        build["builder"] if build["builder"] not in ("", own) else "-",
    )


def _show(server: Server, build: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(build)
        return
    print_fields(_fields(build))
    for title, lines in (
        ("stages", list(map(_stage, build["steps"]))),
        (_since(build), list(change_lines(build))),
        ("newly broken", list(map(finding_line, build["findings"]))),
    ):
        if lines:
            click.echo(f"\n{title}:")
            for line in lines:
                print_line(f"  {line}")


def _stage(step: dict[str, Any]) -> str:
    return stage_line(step["state"], lasted(step["started_at"], step["finished_at"]))


def _fields(build: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("build", f"#{build['number']} of {build['environment']}"),
        ("state", state_of(build)),
        ("error", build["error"] or ""),
        ("commit", f"{build['commit'] or ''} {build['message']}".strip()),
        ("branch", build["branch"] or ""),
        ("why", build["trigger"]),
        ("created", f"{build['created_at']} ({age(build['created_at'])})"),
        ("took", lasted(build["started_at"], build["finished_at"])),
        ("builder", build["builder"]),
        ("id", build["id"]),
    ]


def _since(build: dict[str, Any]) -> str:
    return f"changed since #{build['changes']['since']}" if build["changes"] else ""


def _read(ctx: click.Context, server: Server, text: str) -> dict[str, Any]:
    """The build that ``text`` names; for an environment its newest."""
    if not _is_environment(text):
        build: dict[str, Any] = server.get(f"/builds/{find_build(ctx, server, text)}")["data"]
        return build
    for newest in server.get(f"/environments/{text}/builds", {"limit": 1})["data"]:
        return dict(newest)
    raise Failure(f"{text} has no build yet")


def find_build(ctx: click.Context, server: Server, text: str) -> str:
    """The id of the build that ``text`` names: an id itself, or ``ENV#NUMBER``."""
    environment, hash_sign, number = text.rpartition("#")
    if not hash_sign and _is_id(text):
        return parse_id(text)
    if not (environment and number.isdecimal()):
        raise click.UsageError(f"{text!r} is not a build: write its id, or ENV#NUMBER", ctx)
    query = {"limit": 1, "before": int(number) + 1}
    for build in server.get(f"/environments/{environment_of(environment)}/builds", query)["data"]:
        if build["number"] == int(number):
            return str(build["id"])
    raise Failure(f"{environment} has no build #{number}")


def find_own(ctx: click.Context, server: Server, environment: str, text: str | None) -> str | None:
    """As ``find_build``, for a build of this environment, which a bare number names as well; None for None."""
    if text is None:
        return None
    number = text.removeprefix("#")
    return find_build(ctx, server, f"{environment}#{number}" if number.isdecimal() else text)


def cancel_builds(ctx: click.Context, server: Server, text: str, as_json: bool) -> None:
    """Cancel the build that ``text`` names, or all that run and wait of the environment it names."""
    cancelled = [server.post(f"/builds/{id}/cancel")["data"] for id in _to_cancel(ctx, server, text)]
    if as_json:
        print_json(cancelled)
    for build in cancelled:
        if not as_json:
            click.echo(build["id"])
        say(f"{name_of(build)} {'is cancelled' if build['finished_at'] else 'is being ended'}")


def _to_cancel(ctx: click.Context, server: Server, text: str) -> list[str]:
    if not _is_environment(text):
        return [find_build(ctx, server, text)]
    builds = server.get(f"/environments/{text}/builds", {"limit": 20})["data"]
    # The newest first: else the end of one would start the next.
    running = [str(build["id"]) for build in builds if not build["finished_at"]]
    if not running:
        raise Failure(f"{text} has no build that runs or waits")
    return running


def _is_environment(text: str) -> bool:
    """Whether ``text`` can be an environment's name, and is no id."""
    return is_environment_name(text) and not _is_id(text)


def _is_id(text: str) -> bool:
    try:
        parse_id(text)
    except InvalidId:
        return False
    return True
