"""What every test may use."""

from __future__ import annotations

import os
import shutil

import pytest

SYSTEM_PARTS = {"node": "node", "chromium": "chromium", "bwrap": "bwrap"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that needs a system part is skipped without it, except in CI, where nothing is skipped."""
    for mark in item.iter_markers("needs"):
        part = mark.args[0]
        if shutil.which(SYSTEM_PARTS[part]) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{part} is missing, and in CI nothing is skipped")
            pytest.skip(f"needs {part}")
