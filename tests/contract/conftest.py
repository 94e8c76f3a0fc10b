"""Executors under test: each kind at each level, with the example that misbehaves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deferlite.executors.local import LocalExecutor
from deferlite.model.clock import SystemClock
from deferlite.sandbox.levels import Level, SandboxStatus, probe
from tests.contract.benches import MISBEHAVING, Bench, MakeBench, Plans, Recorder
from tests.support import missing


@pytest.fixture(params=[pytest.param("bubblewrap", marks=pytest.mark.needs("bwrap")), "process"])
async def status(request: pytest.FixtureRequest) -> SandboxStatus:
    if request.param == "process":
        return await probe("off")
    found = await probe("auto")
    if found.level is not Level.BUBBLEWRAP and not os.environ.get("CI"):
        missing(found.detail)
    assert found.level is Level.BUBBLEWRAP, found.detail
    return found


@pytest.fixture
def make_bench(status: SandboxStatus, tmp_path: Path) -> MakeBench:
    @asynccontextmanager
    async def make(plans: Plans) -> AsyncIterator[Bench]:
        sink = Recorder()
        async with LocalExecutor(sink, status, plans, tmp_path / "scratch", SystemClock()) as executor:
            yield Bench(executor, sink, plans)
        assert plans.processes() == []

    return make


@pytest.fixture
async def bench(make_bench: MakeBench) -> AsyncIterator[Bench]:
    """With the build ``misbehaving``; afterwards no process may be left."""
    plans = Plans()
    plans.add("misbehaving", MISBEHAVING, "misbehaving")
    async with make_bench(plans) as made:
        yield made
