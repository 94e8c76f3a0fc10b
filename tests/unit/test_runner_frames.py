"""The runner's own small parts: frames, lines out of bytes, error objects."""

from __future__ import annotations

import json

import pytest

from deferlite.runner.execution import CHUNK, Stream
from deferlite.runner.failures import describe
from deferlite.runner.frames import BadFrame, Frames, frame
from deferlite.sandbox.frames import LONGEST_LINE, lines
from deferlite.sandbox.runner import explain


def test_frames_come_back_however_they_are_cut() -> None:
    sent = [({"type": "a"}, b""), ({"type": "b", "x": "é"}, b"{\n}\n"), ({"type": "c"}, b"\0" * 3)]
    data = b"".join(frame(dict(header), payload) for header, payload in sent)
    for size in (1, 2, 7, len(data)):
        frames = Frames(100)
        found = [item for i in range(0, len(data), size) for item in frames.feed(data[i : i + size])]
        assert [payload for _, payload, _ in found] == [payload for _, payload in sent]
        assert [header["type"] for header, _, _ in found] == ["a", "b", "c"]
        assert b"".join(line + payload for _, payload, line in found) == data


@pytest.mark.parametrize(
    "data", [b"\xff\n", b"1\n", b"{}\n", b'{"type":"a","size":101}\n', b'{"type":"a","size":-1}\n', b"[" * 9999 + b"\n"]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        list(Frames(100).feed(data))


def test_a_stream_holds_an_unfinished_line_back() -> None:
    stream = Stream("stdout", -1)
    assert stream.lines(b"a") == b""
    assert stream.lines(b"b\n\nc") == b"ab\n\n"
    assert stream.rest() == b"c" and stream.rest() == b""


def test_a_line_without_end_is_cut_between_characters() -> None:
    stream = Stream("stdout", -1)
    data = b"x" + "é".encode() * CHUNK
    first = stream.lines(data[:-1])
    assert first.decode() and first + stream.lines(data[-1:]) + stream.rest() == data


def test_lines_are_cut_at_their_ends_and_where_they_are_too_long() -> None:
    assert [line.text for line in lines(1, "stdout", "", b"a\r\n\nb\0\xff\n")] == ["a", "", "b��"]
    assert [len(line.text) for line in lines(1, "stdout", "", b"x" * (LONGEST_LINE + 1))] == [LONGEST_LINE, 1]


def test_an_error_whose_text_cannot_be_had_is_still_told() -> None:
    class Awkward(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    error = json.loads(describe(Awkward()))
    assert error["name"] == "Awkward" and "raised ValueError" in error["message"]
    assert json.loads(describe(ValueError("\ud800" + "x" * 100_000)))["message"].startswith("\\ud800x")


@pytest.mark.parametrize(
    ("status", "words"),
    [(-11, "signal 11 (SIGSEGV)"), (137, "signal 9 (SIGKILL)"), (1, "exit status 1: last"), (255, "exit status 255")],
)
def test_the_death_of_a_runner_in_words(status: int, words: str) -> None:
    assert words in explain(status, b"first\nlast\n")
