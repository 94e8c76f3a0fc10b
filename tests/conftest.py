"""What every test may use."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx

from tests.support import missing

QUICK = (
    "os.stat",
    "os.mkdir",
    "os.rmdir",
    "os.unlink",
    "os.access",
    "os.readlink",
    "os.path.abspath",
    "os.path.samestat",
    "os.read",
)
QUICK_WRITES = ("io.TextIOWrapper.write", "io.BufferedWriter.write")
"""One such call costs less than the hop to a thread that would take it off the loop (2 to 50 against 100 µs); the
writes are the log's. What reads files or walks folders is not among them."""

SYSTEM_PARTS = {"node": "node", "chromium": "chromium", "bwrap": "bwrap"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def blocking_calls_fail(request: pytest.FixtureRequest) -> Iterator[None]:
    """A call of deferlite's that blocks the event loop is a failing test."""
    if "anyio_backend" not in request.fixturenames or request.node.get_closest_marker("blocks"):
        yield
        return
    with blockbuster_ctx(scanned_modules=["deferlite"]) as guard:
        for name in (*QUICK, *QUICK_WRITES):
            guard.functions[name].deactivate()
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that needs a system part is skipped without it, except in CI, where nothing is skipped."""
    for mark in item.iter_markers("needs"):
        part = mark.args[0]
        if shutil.which(SYSTEM_PARTS[part]) is None:
            missing(part)
