"""``deferlite open``."""

from __future__ import annotations

import os
import sys
import webbrowser

import click

from deferlite.cli.client import Server
from deferlite.cli.errors import Failure
from deferlite.cli.options import server_option
from deferlite.cli.output import say

KEY_FILE = "admin.token"


@click.command()
@click.option("--browser/--no-browser", default=None, help="Open a browser; default: where there is one.")
@server_option
def command(server: Server, browser: bool | None) -> None:
    """Print the page's address with a key, and open it.

    A browser is started where there is one: on a terminal of a machine with a screen.
    """
    address = page_address(server)
    click.echo(address)
    wanted = _has_browser() if browser is None else browser
    if wanted and not webbrowser.open(address):
        say("no browser could be started: open the address yourself")


def page_address(server: Server) -> str:
    """The address that signs a browser in.

    Raises:
        NoServer: none runs; Failure: the key cannot be read.
    """
    address = str(server.get("/status")["address"])
    file = server.home / KEY_FILE
    try:
        return f"{address}/?key={file.read_text().strip()}"
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}: the key belongs to the user who runs the server") from None


def _has_browser() -> bool:
    """Someone sits at this terminal and the machine has a screen; a text browser would take the terminal away."""
    screen = sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return screen and sys.stdout.isatty() and sys.stderr.isatty()
