"""``deferlite promote ENV [BUILD]``."""

from __future__ import annotations

import click

from deferlite.cli.builds import find_own
from deferlite.cli.client import Server
from deferlite.cli.following import make_live
from deferlite.cli.options import environment_of, json_option, server_option


@click.command()
@click.argument("environment", type=environment_of)
@click.argument("build", required=False)
@json_option
@server_option
@click.pass_context
def command(ctx: click.Context, server: Server, as_json: bool, environment: str, build: str | None) -> None:
    """Make a held build live, with what it breaks.

    With `[build] breaking = "hold"`, a build that executions in the queue do not fit is held. BUILD is a number as
    `deferlite builds ENV` shows it, or an id; without it the newest held one.
    """
    make_live(server, environment, "promote", {"build": find_own(ctx, server, environment, build)}, as_json)
