"""``deferlite build ENV``."""

from __future__ import annotations

import click

from deferlite.cli.builds import print_build_log
from deferlite.cli.client import Server
from deferlite.cli.options import environment_of, json_option, server_option
from deferlite.cli.output import print_json, say


@click.command()
@click.argument("environment", type=environment_of)
@click.option("--wait", is_flag=True, help="Print the log until the build has ended; exit 1 if it failed.")
@json_option
@server_option
def command(server: Server, as_json: bool, wait: bool, environment: str) -> None:
    """Build an environment now.

    The commit is that of its newest build. Prints the new build's id.
    """
    build = server.post(f"/environments/{environment}/builds")["data"]
    print_json(build) if as_json else click.echo(build["id"])
    say(f"build #{build['number']} of {environment} is asked for")
    if wait:
        print_build_log(server, build, follow=True)
