"""The server's settings: one table makes the flags, the variables, the keys of deferlite.toml and their docs.

A flag beats its variable, a variable beats the file (DESIGN: Home).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from deferlite.model.errors import DeferliteError
from deferlite.sdk.durations import parse_duration

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

FILE = "deferlite.toml"


class HomeError(DeferliteError):
    """The folder cannot be the home; the message names the reason and the cure."""


class SettingsError(DeferliteError):
    """A setting is wrong; the message names where it was said and the cure."""


def _path(value: Any) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError("a folder's path is asked for")
    return Path(value).expanduser().absolute()


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text is asked for")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
        raise ValueError("a list of texts is asked for")
    return tuple(value)


def _number(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        text = value.strip() if isinstance(value, str) else value
        number = int(text) if isinstance(text, str) and text.isdecimal() else text
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high} is asked for")
        return number

    return parse


def _choice(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)} is asked for")
        return str(value)

    return parse


def _seconds(value: Any) -> float:
    """A duration; in a variable or a flag a bare number arrives as text and means seconds as well."""
    if isinstance(value, str) and value.strip().replace(".", "", 1).isdecimal():
        return parse_duration(float(value))
    return parse_duration(value)


class Setting(msgspec.Struct, frozen=True):
    """One row of the table. ``default`` is used as it is; a callable one is called."""

    name: str
    parse: Callable[[Any], Any]
    default: Any
    help: str
    in_file: bool = True

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "DEFERLITE_" + self.name.upper()


def default_home() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "deferlite"


SETTINGS: tuple[Setting, ...] = (
    Setting("home", _path, default_home, "Folder of the queue, the builds and the settings.", in_file=False),
    Setting("environments", _path, None, "Folder of the environment files; default HOME/environments."),
    Setting("address", _text, "127.0.0.1", "Address to listen on."),
    Setting("port", _number(0, 65535), 3337, "Port to listen on; 0 takes a free one."),
    Setting("hosts", _texts, (), "Further host names the page answers to, such as a reverse proxy's."),
    Setting("endpoint", _text, None, "Address that executions reach this server at; default http://127.0.0.1:PORT."),
    Setting(
        "concurrency",
        _number(1, 100_000),
        lambda: 4 * (os.cpu_count() or 1),
        "Executions of all environments at once; default 4 per core.",
    ),
    Setting("builds", _number(1, 64), 2, "Builds at once."),
    Setting("drain", _seconds, 30.0, "How long a stop waits for running executions."),
    Setting(
        "sandbox",
        _choice("auto", "required", "off"),
        "auto",
        "auto takes the best level there is, required refuses to start below bubblewrap, off runs without.",
    ),
    Setting("log_level", _choice("debug", "info", "warning", "error"), "info", "How much the server logs."),
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force. ``drain`` in seconds; ``endpoint`` None until the port is known."""

    home: Path
    environments: Path
    address: str
    port: int
    hosts: tuple[str, ...]
    endpoint: str | None
    concurrency: int
    builds: int
    drain: float
    sandbox: Literal["auto", "required", "off"]
    log_level: str

    @property
    def database(self) -> Path:
        return self.home / "deferlite.db"

    @property
    def socket(self) -> Path:
        return self.home / "deferlite.sock"

    @property
    def admin_token(self) -> Path:
        return self.home / "admin.token"

    @classmethod
    def load(cls, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
        """Put flags, variables and the file together.

        Raises:
            SettingsError: one of them is wrong, or the file has an unknown key.
        """
        home = _resolve(SETTINGS[0], flags, environ, {}, "")
        file = home / FILE
        values = {row.name: _resolve(row, flags, environ, _read(file), str(file)) for row in SETTINGS}
        values["environments"] = values["environments"] or home / "environments"
        return cls(**values)


def make_home(home: Path, environments: Path) -> None:
    """Make the home and the folder of the environment files, open to this user alone: both hold secrets.

    Raises:
        HomeError: they cannot be made.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        environments.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{error.strerror} ({error.filename})"
        raise HomeError(f"{home} cannot be the home: {reason}; choose a folder of yours with --home") from None


def _resolve(
    row: Setting, flags: Mapping[str, Any], environ: Mapping[str, str], file: Mapping[str, Any], at: str
) -> Any:
    for place, source, key in (
        (row.flag, flags, row.name),
        (row.variable, environ, row.variable),
        (at, file, row.name),
    ):
        value = source.get(key)
        if value is not None:
            return _parse(row, value, f"{place}: {key}" if place == at else place)
    return row.default() if callable(row.default) else row.default


def _parse(row: Setting, value: Any, where: str) -> Any:
    try:
        return row.parse(value)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{where}: {value!r} will not do: {error}") from None


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from None
    known = {row.name for row in SETTINGS if row.in_file}
    if unknown := sorted(set(content) - known):
        raise SettingsError(f"{file}: {unknown[0]} is not a setting; there are {', '.join(sorted(known))}")
    return content
