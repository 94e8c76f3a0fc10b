"""What every test may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx

from tests.support import is_there, missing

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
        if not is_there(mark.args[0]):
            missing(mark.args[0])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Figures that tests have recorded as the property ``figures``, whichever process they ran in."""
    for report in [report for reports in terminalreporter.stats.values() for report in reports]:
        if getattr(report, "when", None) == "call":
            for text in [text for name, text in report.user_properties if name == "figures"]:
                terminalreporter.write_line(f"\n{text}")
