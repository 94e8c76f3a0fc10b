"""``deferlite build ENV`` and ``deferlite build cancel BUILD``."""

from __future__ import annotations

import click

from deferlite.cli.builds import cancel_builds
from deferlite.cli.client import Server
from deferlite.cli.following import name_of, refuse_failed, short, tell_outcome, wait_for
from deferlite.cli.options import environment_of, json_option, server_option
from deferlite.cli.output import print_json, say


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="ENV | cancel BUILD")
@click.option("--commit", metavar="SHA", help="This commit, and not the followed one.")
@click.option("--wait", is_flag=True, help="Print the log until it ends; exit 1 unless it is good, and not held.")
@json_option
@server_option
@click.pass_context
def command(
    ctx: click.Context, server: Server, as_json: bool, wait: bool, commit: str | None, words: tuple[str, ...]
) -> None:
    """Build an environment now, or cancel a build.

    Builds the commit that the environment follows. With --commit another one: the environment then holds there until
    the next commit, or `deferlite rollback ENV --resume`. SHA is a commit's SHA, the first signs of one, or what git
    understands, such as a branch, a tag or main~1. Prints the new build's id.

    With --wait the exit code is 1, too, for a build that is held: it is not live until `deferlite promote ENV`.

    `build cancel` takes a build's id, ENV#NUMBER, or ENV for all of its builds that have not ended.
    """
    match words:
        case (environment,):
            _build(server, environment_of(environment), commit, wait, as_json)
        case ("cancel", build) if commit is None and not wait:
            cancel_builds(ctx, server, build, as_json)
        case _:
            raise click.UsageError("write `deferlite build ENV` or `deferlite build cancel BUILD`", ctx)


def _build(server: Server, environment: str, commit: str | None, wait: bool, as_json: bool) -> None:
    body = {"commit": commit} if commit else {}
    build = server.post(f"/environments/{environment}/builds", body)["data"]
    if not as_json:
        click.echo(build["id"])
    elif not wait:
        print_json(build)
    say(f"{name_of(build)} ({short(build)}) is asked for")
    if commit:
        say(f"{environment} then holds there until the next commit, or `deferlite rollback {environment} --resume`")
    if wait:
        _wait(server, build, as_json)


def _wait(server: Server, build: dict[str, object], as_json: bool) -> None:
    ended = wait_for(server, build, quiet=as_json)
    if as_json:
        print_json(ended)
    refuse_failed(ended)
    tell_outcome(ended)
