"""What a value of an environment file may be. Each check returns the value as the settings keep it."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from deferlite.model.environment import REMOTE_SCHEMES, is_remote
from deferlite.model.schedule import validate_cron
from deferlite.sdk.durations import parse_duration
from deferlite.sdk.retry import parse_retry

Check = Callable[[Any], Any]
TextCheck = Callable[[Any], str]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?(?:i?B)?)\Z", re.IGNORECASE | re.ASCII)
_POWERS = "KMGT"
_SMALLEST_MEMORY = 16 * 1024**2
_LARGEST_MEMORY = 1024**5
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|(?:^|/)\.|\.lock(?:/|\Z)|^-|^/|[/.]\Z|^@\Z")
_PYTHON = re.compile(
    r"(?:cpython|pypy)?@?(?:[<>=~!]=?\s*)?\d+(?:\.\d+){0,2}(?:\.\*)?(?:\s*,\s*[<>=~!]=?\s*\d+(?:\.\d+)*)*\Z"
)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
RESERVED = re.compile(r"DEFER_.*|NODE_OPTIONS|NODE_PATH|HOME|TMPDIR|TZ")
"""Variables that the platform sets."""
_MOUNTS_REFUSED = ("/", "/proc", "/sys", "/dev")
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")


class Wrong(Exception):
    """What is wrong with a value, and what to write instead. Holds no secret."""

    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(reason)
        self.reason, self.cure = reason, cure


class WrongItems(Exception):
    """The wrong items of a list or table, by their place."""

    def __init__(self, items: Mapping[Any, Wrong]) -> None:
        super().__init__(items)
        self.items = items


def kind_of(value: Any) -> str:
    kinds = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date or time")


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``word`` was probably meant to be."""
    plain = word.lower().replace("-", "_")
    words = sorted(known)
    by_plain = {other.replace("_", ""): other for other in words}
    if plain.replace("_", "") in by_plain:
        return by_plain[plain.replace("_", "")]
    near = difflib.get_close_matches(plain, words, n=1, cutoff=0.6)
    begins = [other for other in words if len(plain) >= 3 and (other.startswith(plain) or plain.startswith(other))]
    return next(iter(near or begins), None)


def text(example: str) -> TextCheck:
    """A text that is not empty; ``example`` is the cure's."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Wrong(f"is {kind_of(value)}, not a text", f"write it between quotes, such as {example}")
        if not value.strip():
            raise Wrong("is empty", f"write a text, such as {example}, or remove the line")
        if "\0" in value:
            raise Wrong("holds a NUL character", "remove it")
        return value

    return check


def choice(*choices: str) -> Check:
    quoted = " or ".join(f'"{name}"' for name in choices)

    def check(value: Any) -> str:
        if isinstance(value, str) and value in choices:
            return value
        near = suggest(value, choices) if isinstance(value, str) else None
        said = f'"{value}"' if isinstance(value, str) else kind_of(value)
        raise Wrong(f"is {said}", f'did you mean "{near}"?' if near else f"write {quoted}")

    return check


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"is {kind_of(value)}, not true or false", "write true or false, without quotes")
    return value


def number(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(
                f"is {kind_of(value)}, not a whole number", f"write a number from {low} to {high}, without quotes"
            )
        if not low <= value <= high:
            raise Wrong(f"is {value}", f"write a number from {low} to {high}")
        return value

    return check


def duration(low: float, shown: str, high: float = 100 * 365 * 86400.0) -> Check:
    """Seconds out of ``"30s"``; ``low`` is said as ``shown``."""

    def check(value: Any) -> float:
        try:
            seconds = parse_duration(value)
        except (ValueError, TypeError):
            said = f'"{value}"' if isinstance(value, str) else kind_of(value)
            raise Wrong(f"is {said}, not a duration", 'write such as "30s", "10m", "1h" or "1d30m"') from None
        if seconds < low:
            raise Wrong(f"is {seconds:g} s", f'write at least "{shown}"')
        if seconds > high:
            raise Wrong(f"is {seconds:g} s", f"write at most {high:g} s")
        return seconds

    return check


def size(value: Any) -> int:
    """Bytes out of ``"512MiB"``, ``"1GB"`` or a plain number."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Wrong(f"is {kind_of(value)}, not a size", 'write such as "512MiB" or "1GB"')
    found = _SIZE.match(value.strip()) if isinstance(value, str) else None
    if isinstance(value, str) and found is None:
        raise Wrong(f'is "{value}", not a size', 'write such as "512MiB" or "1GB"')
    amount = _bytes(float(found[1]), found[2].upper()) if found else int(value)
    if amount < _SMALLEST_MEMORY:
        raise Wrong(f"is {amount} bytes, too little for any function", 'write at least "16MiB", such as "512MiB"')
    if amount > _LARGEST_MEMORY:
        raise Wrong(f"is {amount} bytes, more than any machine has", 'write such as "512MiB" or "1GB"')
    return amount


def _bytes(amount: float, unit: str) -> int:
    power = _POWERS.find(unit[:1]) + 1 if unit[:1] else 0
    return int(amount * (1000 if unit.endswith("B") and "I" not in unit else 1024) ** power)


def texts(example: str, check_item: Check | None = None, shortest: int = 0) -> Check:
    """A list; an item's fault says which one."""
    item = check_item or text(example)

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Wrong(f"is {kind_of(value)}, not a list", f"write it in brackets, such as [{example}]")
        if len(value) < shortest:
            raise Wrong("is empty", f"write such as [{example}]")
        return tuple(_each(enumerate(value), lambda _, part: item(part)).values())

    return check


def _each(items: Iterable[tuple[Any, Any]], check: Callable[[Any, Any], Any]) -> dict[Any, Any]:
    """The good items, by their place. Raises WrongItems."""
    good, wrong = {}, {}
    for place, part in items:
        try:
            good[place] = check(place, part)
        except Wrong as error:
            wrong[place] = error
    if wrong:
        raise WrongItems(wrong)
    return good


def text_table(example: str) -> Check:
    def check(value: Any) -> dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(part, str) and part for part in value.values()):
            raise Wrong("is not a table of texts", f"write such as {example}")
        return value

    return check


def anything(value: Any) -> Any:
    return value


def repository(value: Any) -> str:
    where = text('"/srv/shop" or "https://example.org/shop.git"')(value).strip()
    if any(ord(sign) < 32 for sign in where) or where.startswith("-"):
        raise Wrong("is not a folder or an address", 'write such as "/srv/shop"')
    scheme = where.partition("://")[0].lower()
    if "::" in where.partition("/")[0] or ("://" in where and scheme not in REMOTE_SCHEMES):
        raise Wrong(f'uses the transport "{scheme.partition("::")[0]}"', f"use one of {', '.join(REMOTE_SCHEMES)}")
    if "://" in where and not _has_place(where):
        raise Wrong("has a host that cannot be read", "write / in a password as %2F, or keep it under [git] token")
    if where.startswith("~"):
        raise Wrong("begins with ~, which the server does not resolve", "write the whole path, such as /home/you/shop")
    if not is_remote(where) and not where.startswith("/"):
        raise Wrong(
            "is neither a whole path nor an address", f'write such as "/srv/{PurePosixPath(where).name or "shop"}"'
        )
    return where


def _has_place(address: str) -> bool:
    """Whether what stands before the first / can be a host, and its port: else a part of a password is behind it."""
    try:
        urlsplit(address).port  # noqa: B018
    except ValueError:
        return False
    return True


def branch(value: Any) -> str:
    name = text('"main"')(value)
    if name.startswith("refs/heads/"):
        raise Wrong("is a full reference", f'write the branch\'s name, "{name.removeprefix("refs/heads/")}"')
    if name.startswith("refs/"):
        raise Wrong("is not a branch", 'write a branch\'s name, such as "main"')
    if _BAD_REF.search(name):
        raise Wrong(f'"{name}" cannot be the name of a branch', 'write it as "git branch" shows it, such as "main"')
    return name


def inside(value: Any) -> str:
    """A folder below the repository's root; ``""`` is the root."""
    path = text('"apps/api"')(value)
    if path.startswith("/"):
        raise Wrong("begins with /", f'write it from the repository\'s root, such as "{path.strip("/") or "apps/api"}"')
    parts = PurePosixPath(path).parts
    if ".." in parts or ".git" in parts:
        raise Wrong(f'"{path}" leads out of the project', "write a folder inside the repository")
    return "/".join(parts)


def python_version(value: Any) -> str:
    version = text('"3.12"')(value)
    if not _PYTHON.match(version) and not version.startswith("/"):
        raise Wrong(f'"{version}" is not a Python version', 'write such as "3.12", or the path of an interpreter')
    return version


def mount(value: Any) -> str:
    said = text('"/srv/media" or "/srv/uploads:rw"')(value)
    path, colon, mode = said.partition(":")
    if colon and mode not in ("rw", "ro"):
        raise Wrong(f'"{said}" ends in ":{mode}"', f'write "{path}" to read, or "{path}:rw" to write')
    if not path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise Wrong(f'"{said}" is not a whole path', 'write such as "/srv/media" or "/srv/uploads:rw"')
    normal = str(PurePosixPath("/" + path.lstrip("/")))
    if normal in _MOUNTS_REFUSED or normal.startswith(("/proc/", "/sys/", "/dev/")):
        raise Wrong(f'"{said}" is a part of the system', "mount the folder that the functions need")
    return normal + (":rw" if mode == "rw" else "")


def token(value: Any) -> str:
    cure = "make one with: openssl rand -hex 32, or remove the line and run: deferlite token create ENV"
    if not isinstance(value, str):
        raise Wrong(f"is {kind_of(value)}, not a text", cure)
    if not _TOKEN.match(value) or value.startswith("dlx_"):
        raise Wrong("holds signs that no token may have", cure)
    if len(value) < 20 or len(set(value)) < 8:
        raise Wrong("is too easy to guess: at least 20 signs, 8 of them different", cure)
    return value


def secret(shortest: int) -> Check:
    """Text of at least that many signs, or ``{"file": path}``."""

    def check(value: Any) -> str | dict[str, str]:
        if isinstance(value, dict):
            if set(value) != {"file"} or not isinstance(value["file"], str):
                raise Wrong("is a table", 'write "…" or { file = "/run/secrets/…" }')
            return {"file": file(value["file"])}
        said = text('"…" or { file = "/run/secrets/…" }')(value)
        if len(said) < shortest:
            raise Wrong(f"is too easy to guess: at least {shortest} signs", "make one with: openssl rand -hex 32")
        return said

    return check


def file(value: Any) -> str:
    path = text('"/run/secrets/key"')(value)
    if not path.startswith("/"):
        raise Wrong("is not a whole path", f'write such as "/run/secrets/{PurePosixPath(path).name}"')
    return path


def pattern(value: Any) -> str:
    """A shell pattern that names of branches are held against."""
    said = text('"feature/*"')(value)
    if said.startswith("refs/"):
        raise Wrong("is a full reference", f'write the branch\'s name, "{said.removeprefix("refs/heads/")}"')
    if _BAD_REF.search(re.sub(r"\[[^]]*\]|[*?]", "x", said)):
        raise Wrong(f'"{said}" fits no branch', 'write such as "feature/*"')
    return said


def variables(value: Any) -> dict[str, str | dict[str, str]]:
    """``[env]``, without those that the platform sets."""
    if not isinstance(value, dict):
        raise Wrong(f"is {kind_of(value)}, not a section", 'write [env], and below it NAME = "value"')
    return {name: part for name, part in _each(value.items(), _variable).items() if not RESERVED.fullmatch(name)}


def _variable(name: str, value: Any) -> str | dict[str, str]:
    if not _ENV_NAME.match(name):
        raise Wrong("cannot be the name of a variable", "use letters, digits and _, not beginning with a digit")
    if isinstance(value, bool | int | float):
        shown = str(value).lower() if isinstance(value, bool) else value
        raise Wrong(f"is {kind_of(value)}, and variables are texts", f'write {name} = "{shown}"')
    if isinstance(value, str):
        if "\0" in value:
            raise Wrong("holds a NUL character", "remove it")
        return value
    if not isinstance(value, dict) or set(value) != {"file"} or not isinstance(value.get("file"), str):
        raise Wrong(f"is {kind_of(value)}, not a text", f'write {name} = "…" or {name} = {{ file = "/run/secrets/…" }}')
    if not value["file"].startswith("/"):
        raise Wrong("names a file without its whole path", f'write {name} = {{ file = "/run/secrets/…" }}')
    return {"file": value["file"]}


def retry(value: Any) -> dict[str, int | float]:
    """A policy's fields, as JSON keeps them."""
    if isinstance(value, Mapping):
        value = {
            key: parse_duration(part) if key.endswith("interval") and isinstance(part, str) else part
            for key, part in value.items()
        }
    try:
        return parse_retry(value).as_dict()
    except (ValueError, TypeError) as error:
        raise Wrong(f"is not a retry policy: {error}", "write such as true, 5 or { max_attempts = 5 }") from None


def cron(value: Any) -> str | None:
    """False: the function's own cron is off here."""
    if value is False:
        return None
    expression = text('"0 8 * * *"')(value)
    try:
        validate_cron(expression)
    except ValueError as error:
        reason, _, cure = str(error).partition("; ")
        raise Wrong(f"is not a cron expression: {reason}", cure) from None
    return expression


def timezone(value: Any) -> str:
    name = text('"Europe/Paris"')(value)
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        near = difflib.get_close_matches(name, zoneinfo.available_timezones(), n=1)
        cure = f'did you mean "{near[0]}"?' if near else 'write such as "UTC" or "Europe/Paris"'
        raise Wrong(f'"{name}" is not a time zone', cure) from None
    return name
