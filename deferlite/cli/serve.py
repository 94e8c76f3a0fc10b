"""``deferlite serve``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import anyio
import click

from deferlite import server
from deferlite.cli.output import say
from deferlite.settings import SETTINGS, Settings, SettingsError

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for every row of the settings' table; their values stay text for ``Settings.load``."""
    for row in reversed(SETTINGS):
        command = click.option(row.flag, row.name, default=None, help=f"{row.help} [{row.variable}]")(command)
    return command


@click.command()
@settings_options
def command(**flags: str | None) -> None:
    """Run everything.

    Watches the environments, builds and executes, and serves the page and the API. Prints the page's address.

    SIGTERM drains: running executions get the time of --drain. A second one stops at once.
    """
    try:
        settings = Settings.load(flags, os.environ)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    configure_logging(settings.log_level)
    anyio.run(server.serve, settings, _announce, backend_options={"use_uvloop": True})


async def _announce(running: server.Running) -> None:
    say("deferlite is ready; the page:")
    click.echo(running.page)


def configure_logging(level: str) -> None:
    """The server's log on stderr, one line each."""
    logging.basicConfig(level=level.upper(), stream=sys.stderr, format=_FORMAT, force=True)
    for noisy in ("aiosqlite", "httpx", "httpcore", "uvicorn", "watchfiles"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
