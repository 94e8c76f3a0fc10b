"""``deferlite rollback ENV [BUILD]``."""

from __future__ import annotations

import click

from deferlite.cli.builds import find_build
from deferlite.cli.client import Server
from deferlite.cli.options import environment_of, json_option, server_option
from deferlite.cli.output import print_json, say


@click.command()
@click.argument("environment", type=environment_of)
@click.argument("build", required=False)
@json_option
@server_option
@click.pass_context
def command(ctx: click.Context, server: Server, as_json: bool, environment: str, build: str | None) -> None:
    """Make an older good build live until the next commit.

    BUILD is a number as `deferlite builds ENV` shows it, or an id; without it the good build before the live one.
    """
    answer = server.post(f"/environments/{environment}/rollback", {"build": _id(ctx, server, environment, build)})
    live = answer["data"]
    print_json(live) if as_json else click.echo(live["id"])
    commit = (live["commit"] or "no commit")[:8]
    say(f"{environment} is live on build #{live['number']} ({commit}) until the next commit")


def _id(ctx: click.Context, server: Server, environment: str, build: str | None) -> str | None:
    if build is None:
        return None
    number = build.removeprefix("#")
    return find_build(ctx, server, f"{environment}#{number}" if number.isdecimal() else build)
