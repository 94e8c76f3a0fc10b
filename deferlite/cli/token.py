"""``deferlite token create|list|revoke ENV``."""

from __future__ import annotations

import click

from deferlite.cli.client import Server
from deferlite.cli.options import environment_of, id_of, json_option, server_option
from deferlite.cli.output import age, print_json, print_table, say


@click.group()
def command() -> None:
    """API tokens of an environment: shown once, stored hashed."""


@command.command()
@click.argument("environment", type=environment_of)
@click.option("--name", default="", help="What it is for, to tell tokens apart.")
@json_option
@server_option
def create(server: Server, as_json: bool, name: str, environment: str) -> None:
    """Make a token for ENVIRONMENT and print it. It is not shown again."""
    answer = server.post(f"/environments/{environment}/tokens", {"name": name})
    print_json({**answer["data"], "token": answer["token"]}) if as_json else click.echo(answer["token"])
    say(f"good for {environment} until `deferlite token revoke {environment} {answer['data']['id']}`; not shown again")


@command.command("list")
@click.argument("environment", type=environment_of)
@json_option
@server_option
def list_(server: Server, as_json: bool, environment: str) -> None:
    """List the tokens of ENVIRONMENT, without their secrets."""
    tokens = server.get(f"/environments/{environment}/tokens")["data"]
    if as_json:
        print_json(tokens)
        return
    rows = ((t["id"], t["name"] or "-", age(t["created_at"]), age(t["revoked_at"]) or "-") for t in tokens)
    print_table(("id", "name", "created", "revoked"), rows)


@command.command()
@click.argument("environment", type=environment_of)
@click.argument("token_id", type=id_of, metavar="ID")
@server_option
def revoke(server: Server, token_id: str, environment: str) -> None:
    """Revoke the token ID of ENVIRONMENT: it stops working at once."""
    server.delete(f"/environments/{environment}/tokens/{token_id}")
    say("revoked")
