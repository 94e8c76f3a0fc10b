"""What commands print: data on stdout, talk on stderr, colours and tables only on a terminal."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deferlite.web import words

T = TypeVar("T")
STATE_STYLES = {
    "succeed": "green",
    "failed": "red",
    "started": "cyan",
    "aborting": "yellow",
    "aborted": "yellow",
    "cancelled": "dim",
    "overtaken": "dim",
    "discarded": "dim",
    "live": "green",
    "live, stays": "green",
    "live, no repository": "yellow",
    "held": "yellow",
    "building": "cyan",
    "build held": "yellow",
    "build failed": "red",
    "broken file": "red",
    "no repository": "red",
    "retired": "dim",
}


def say(text: str) -> None:
    """Talk: a line on stderr."""
    click.echo(words.plain(text), err=True)


def print_line(text: str) -> None:
    """Data: a line on stdout."""
    click.echo(words.plain(text))


def print_json(value: Any, indent: int | None = 2) -> None:
    """Data: JSON on stdout."""
    print_json_text(json.dumps(value, indent=indent, ensure_ascii=False))


def print_json_text(text: str) -> None:
    """Data: ``text`` is JSON; characters that a terminal would obey are written as escapes, which mean the same."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() or char in "\r\n\t" else json.dumps(char)[1:-1] for char in text)
    click.echo(text)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere tab-separated lines without a head, for ``cut`` and ``while read``."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(map(_cell, row)))
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(_cell(cell), style=STATE_STYLES.get(cell, "")) for cell in row))
    Console().print(table)


def _cell(text: str) -> str:
    return words.plain(text).replace("\t", " ").replace("\n", " ")


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """``name: value`` lines, aligned; empty values are left out."""
    shown = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        style = STATE_STYLES.get(value, "")
        value = click.style(value, fg=style) if style and style != "dim" else words.plain(value)
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
        if as_json:
            print_json(line, indent=None)
        else:
            click.echo(_log_line(line))


def _log_line(line: dict[str, Any]) -> str:
    style = {"stderr": "yellow", "system": "blue"}.get(line["stream"])
    text = words.coloured(line["text"])
    return f"{click.style(line['time'][11:23], dim=True)} {click.style(text, fg=style) if style else text}"


class Underway:
    """The last line of a terminal: what goes on, asked of ``tell`` each second. It gives way to what is printed."""

    def __init__(self, tell: Callable[[], str]) -> None:
        self._tell = tell
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Underway:
        if sys.stderr.isatty():
            threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._over.set()
            self._write("")

    def giving_way(self, lines: Iterable[T]) -> Generator[T, None, None]:
        """``lines``; the line is not there while their reader does something with one. To be closed."""
        for line in lines:
            with self._lock:
                self._write("")
                yield line

    def _run(self) -> None:
        while not self._over.wait(1.0):
            # What cannot be told is not: whoever waits hears of it.
            with suppress(Exception):
                text = self._tell()
                with self._lock:
                    if not self._over.is_set():
                        self._write(text)

    def _write(self, text: str) -> None:
        if sys.stderr.isatty():
            click.echo(
                f"\r\x1b[K{click.style(words.plain(text), dim=True)}" if text else "\r\x1b[K", nl=False, err=True
            )
