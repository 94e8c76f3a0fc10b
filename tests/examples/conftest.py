"""The examples, built and measured once for all tests that look at them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.examples.measure import Report, measured
from tests.support import Server


@pytest.fixture(scope="module")
def measurement(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Report]]:
    """What ``make examples`` does; the server goes on for the tests."""
    with measured(tmp_path_factory.mktemp("examples")) as (server, report):
        yield server, report


@pytest.fixture
def server(measurement: tuple[Server, Report]) -> Server:
    return measurement[0]


@pytest.fixture
def report(measurement: tuple[Server, Report]) -> Report:
    return measurement[1]
