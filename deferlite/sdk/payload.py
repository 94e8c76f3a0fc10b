"""JSON on its way in and out: what is not JSON is a TypeError that names the place."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_CURES = {
    "datetime": "pass value.isoformat()",
    "date": "pass value.isoformat()",
    "time": "pass value.isoformat()",
    "timedelta": "pass value.total_seconds()",
    "Decimal": "pass str(value)",
    "UUID": "pass str(value)",
    "PosixPath": "pass str(value)",
    "WindowsPath": "pass str(value)",
    "set": "pass a list",
    "frozenset": "pass a list",
    "bytes": "pass text, or base64",
    "bytearray": "pass text, or base64",
    "generator": "pass a list",
}


def check(value: Any, place: str) -> None:
    """Accept ``value`` if JSON can hold it; tuples count as lists.

    Raises:
        TypeError: it cannot; the message starts with ``place`` and the path inside it.
    """
    try:
        _check(value, place)
    except RecursionError:
        raise TypeError(f"{place} refers to itself or is nested too deeply for JSON") from None


def check_arguments(function: str, names: list[str], arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    """``check`` for every argument of a call; ``names`` are the positional parameters, as far as they are known."""
    for position, value in enumerate(arguments):
        name = f" ({names[position]})" if position < len(names) else ""
        check(value, f"{function}(): argument {position + 1}{name}")
    for key, value in keywords.items():
        check(value, f"{function}(): argument {key}")


def encode(value: Any) -> str:
    """JSON text of a value that passed ``check``."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def decode(text: str | bytes) -> Any:
    return json.loads(text)


def _check(value: Any, place: str) -> None:
    if value is None or isinstance(value, (bool, int)):
        return
    if isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{place} is {float(value)!r}, which JSON does not know: pass None or a string")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check(item, f"{place}[{index}]")
    elif isinstance(value, dict):
        _check_dict(value, place)
    else:
        kind = type(value).__name__
        cure = _CURES.get(kind, "pass plain data (text, numbers, lists, dicts), or a key to look the object up by")
        raise TypeError(f"{place} is of type {kind}, which is not JSON: {cure}")


def _check_dict(value: dict[Any, Any], place: str) -> None:
    for key, item in value.items():
        if not isinstance(key, str):
            raise TypeError(f"{place} has the key {key!r}: keys of a JSON object are strings, pass str(key)")
        _check_text(key, place)
        _check(item, f"{place}[{key!r}]")


def _check_text(text: str, place: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TypeError(
            f"{place} holds half of a surrogate pair, which is not text: decode it with errors='replace'"
        ) from None
