"""``deferlite rollback ENV [BUILD]`` and ``deferlite rollback ENV --resume``."""

from __future__ import annotations

import click

from deferlite.cli.builds import find_own
from deferlite.cli.client import Server
from deferlite.cli.following import make_live
from deferlite.cli.options import environment_of, json_option, server_option
from deferlite.cli.output import say


@click.command()
@click.argument("environment", type=environment_of)
@click.argument("build", required=False)
@click.option("--resume", is_flag=True, help="End a rollback: the newest good build is live again.")
@json_option
@server_option
@click.pass_context
def command(
    ctx: click.Context, server: Server, as_json: bool, resume: bool, environment: str, build: str | None
) -> None:
    """Make an older good build live, and hold there until the next commit or --resume.

    BUILD is a number as `deferlite builds ENV` shows it, or an id; without it the good build before the live one.
    """
    if resume and build:
        raise click.UsageError("--resume takes no BUILD: it makes the newest good one live", ctx)
    body: dict[str, object] = {"resume": True} if resume else {"build": find_own(ctx, server, environment, build)}
    make_live(server, environment, "rollback", body, as_json)
    holds = f"it holds there until the next commit, or `deferlite rollback {environment} --resume`"
    say("it follows new commits as before" if resume else holds)
