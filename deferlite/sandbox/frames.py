"""What a runner and the server say to each other (deferlite/runner/run.py): frames, read and written here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from deferlite.model.execution import LogLine

LONGEST_LINE = 64 * 1024
"""Characters of a log line; a longer one is cut into pieces."""

LONGEST_HEADER = 64 * 1024
"""Bytes of a frame's first line. What a runner says may be forged: its process runs the user's modules."""

_Whole = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Seconds = Annotated[float, msgspec.Meta(ge=0.0, lt=1e12)]


class Header(msgspec.Struct):
    """A frame's first line. Numbers are such that the store takes them."""

    type: str
    size: _Whole = 0
    id: str = ""
    attempt: _Whole = 0
    ending: str = ""
    cpu_time: _Seconds = 0.0
    memory_peak: _Whole = 0
    stream: str = ""
    level: str = ""
    time: _Whole = 0
    fork: bool = True
    reason: str | None = None
    seconds: float = 0.0
    message: str = ""


_decoder = msgspec.json.Decoder(Header)
_encoder = msgspec.json.Encoder()


class Frames:
    """Takes bytes as they come and gives the frames that are whole; ``largest`` is a payload's limit in bytes."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._buffer = bytearray()
        self._header: Header | None = None

    def feed(self, data: bytes) -> Iterator[tuple[Header, bytes]]:
        """Raises:
        ValueError: it is not of the protocol; frames before that have been given.
        """
        self._buffer += data
        while self._buffer and (frame := self._next()) is not None:
            yield frame

    def _next(self) -> tuple[Header, bytes] | None:
        if self._header is None:
            end = self._buffer.find(b"\n", 0, LONGEST_HEADER)
            if end < 0:
                if len(self._buffer) >= LONGEST_HEADER:
                    raise ValueError("a header without an end")
                return None
            self._header = _decoder.decode(memoryview(self._buffer)[:end])
            del self._buffer[: end + 1]
        size = self._header.size
        if size > self._largest:
            raise ValueError(f"a payload of {size} bytes")
        if len(self._buffer) < size:
            return None
        payload = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        header, self._header = self._header, None
        return header, payload

    def clear(self) -> None:
        self._buffer.clear()


def frame(header: dict[str, Any], payload: bytes = b"") -> bytes:
    if payload:
        header["size"] = len(payload)
    return _encoder.encode(header) + b"\n" + payload


def lines(time: int, stream: str, level: str, payload: bytes) -> list[LogLine]:
    """``payload`` cut at its line ends, and where a line is too long."""
    # SQLite and terminals end text at NUL.
    text = payload.decode(errors="replace").replace("\0", "\ufffd")
    found = []
    for line in text.removesuffix("\n").split("\n"):
        for start in range(0, max(len(line), 1), LONGEST_LINE):
            found.append(LogLine(time, stream, line[start : start + LONGEST_LINE].removesuffix("\r"), level))
    return found
