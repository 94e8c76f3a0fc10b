"""JSON on its way in and out: what is not JSON is a TypeError that names the place."""

from __future__ import annotations

import json
import math
from typing import Any

_CURES = {
    **dict.fromkeys(("datetime", "date", "time"), "pass value.isoformat()"),
    **dict.fromkeys(("set", "frozenset", "generator"), "pass a list"),
    **dict.fromkeys(("bytes", "bytearray"), "pass text, or base64"),
    **dict.fromkeys(("Decimal", "UUID", "PosixPath"), "pass str(value)"),
    "timedelta": "pass value.total_seconds()",
}
_OTHER_CURE = "pass plain data (text, numbers, lists, dicts), or a key to look the object up by"


def check(value: Any, place: str) -> None:
    """Accept ``value`` if JSON can hold it; tuples count as lists.

    Raises:
        TypeError: it cannot; the message starts with ``place`` and the path inside it.
    """
    try:
        _check(value, place)
    except RecursionError:
        raise TypeError(f"{place} refers to itself or is nested too deeply for JSON") from None


def encode(value: Any) -> str:
    """JSON text of a value that passed ``check``."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def decode(text: str | bytes) -> Any:
    return json.loads(text)


def _check(value: Any, place: str) -> None:
    if isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check(item, f"{place}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {key!r}: keys of a JSON object are strings, pass str(key)")
            _check_text(key, place)
            _check(item, f"{place}[{key!r}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{place} is {float(value)!r}, which JSON does not know: pass None or a string")
    elif value is not None and not isinstance(value, int):
        kind = type(value).__name__
        raise TypeError(f"{place} is of type {kind}, which is not JSON: {_CURES.get(kind, _OTHER_CURE)}")


def _check_text(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TypeError(f"{place} holds half of a surrogate pair: decode the text with errors='replace'") from None
