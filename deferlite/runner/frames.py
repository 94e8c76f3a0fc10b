"""Frames of the runner protocol (run.py): a JSON object on one line, and the payload its ``size`` announces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from os import write
from typing import Any

LONGEST_HEADER = 4 * 1024 * 1024
"""Bytes. Headers carry an execution's variables."""

_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


class BadFrame(ValueError):
    """The other side does not speak the protocol."""


def frame(header: dict[str, Any], payload: bytes = b"") -> bytes:
    if payload:
        header["size"] = len(payload)
    return _encode(header).encode() + b"\n" + payload


def send(fd: int, data: bytes) -> None:
    """Write all of ``data`` to a blocking descriptor."""
    view = memoryview(data)
    while view:
        view = view[write(fd, view) :]


class Frames:
    """Cuts a byte stream into frames."""

    def __init__(self, largest: int) -> None:
        self._buffer = bytearray()
        self._largest = largest
        self._header: dict[str, Any] | None = None
        self._line = b""
        self._size = 0

    def feed(self, data: bytes) -> Iterator[tuple[dict[str, Any], bytes, bytes]]:
        """Header, payload, and the header's line as it came.

        Raises:
            BadFrame: not a frame, or a payload of more than ``largest`` bytes.
        """
        self._buffer += data
        while self._read_header() and len(self._buffer) >= self._size:
            payload = bytes(self._buffer[: self._size])
            del self._buffer[: self._size]
            header, self._header = self._header, None
            assert header is not None
            yield header, payload, self._line

    def _read_header(self) -> bool:
        if self._header is not None:
            return True
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > LONGEST_HEADER:
                raise BadFrame("a header without an end")
            return False
        self._line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        try:
            header = _decode(self._line.decode())
            self._size = header.get("size", 0)
            if not isinstance(header["type"], str) or not 0 <= self._size <= self._largest:
                raise BadFrame(f"a payload of {self._size} bytes")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BadFrame(str(error)) from None
        self._header = header
        return True
