"""What commands print: data on stdout, talk on stderr, colours and tables only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deferlite.web import words

STATE_STYLES = {
    "succeed": "green",
    "failed": "red",
    "started": "cyan",
    "aborting": "yellow",
    "aborted": "yellow",
    "cancelled": "dim",
    "discarded": "dim",
    "live": "green",
    "held": "yellow",
    "broken": "red",
    "retired": "dim",
}


def say(text: str) -> None:
    """Talk: a line on stderr."""
    click.echo(text, err=True)


def print_json(value: Any) -> None:
    """Data: JSON on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere tab-separated lines without a head, for ``cut`` and ``while read``."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(words.plain(cell).replace("\t", " ") for cell in row))
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(words.plain(cell).replace("\t", " "), style=STATE_STYLES.get(cell, "")) for cell in row))
    Console().print(table)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """``name: value`` lines, aligned; empty values are left out."""
    shown = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        style = STATE_STYLES.get(value, "")
        value = click.style(value, fg=style) if style and style != "dim" else value
        click.echo(f"{name + ':':<{width + 1}} {value}")


def parse_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def age(text: str | None) -> str:
    """How long ago an RFC 3339 moment was, or how far ahead it is: ``3m ago``, ``in 2h``."""
    moment = parse_time(text)
    return words.age((datetime.now(timezone.utc) - moment).total_seconds()) if moment else ""


def lasted(start: str | None, end: str | None) -> str:
    """The time between two RFC 3339 moments, to now without an end."""
    begun, ended = parse_time(start), parse_time(end) or datetime.now(timezone.utc)
    return words.exact((ended - begun).total_seconds()) if begun else ""


def print_log(lines: Iterable[dict[str, Any]], as_json: bool) -> None:
    """A build's or an execution's log as it comes, all streams on stdout: they are the data asked for."""
    for line in lines:
        click.echo(json.dumps(line, ensure_ascii=False) if as_json else _log_line(line))


def _log_line(line: dict[str, Any]) -> str:
    style = {"stderr": "yellow", "system": "blue"}.get(line["stream"])
    text = words.plain(line["text"])
    return f"{click.style(line['time'][11:23], dim=True)} {click.style(text, fg=style) if style else text}"
