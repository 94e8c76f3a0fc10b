"""Bells that cannot be missed, and events that reach who listens."""

from __future__ import annotations

import anyio
import pytest

from deferlite.bus import Bell, Bus
from deferlite.model.events import BuildLogged, EnvironmentChanged

pytestmark = pytest.mark.anyio


async def test_a_ring_before_the_wait_is_heard_and_two_count_as_one() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    await bell.wait()
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0):
            await bell.wait()


async def test_listeners_hear_their_kind_inside_the_block_only() -> None:
    bus, heard = Bus(), []
    with bus.listening(BuildLogged, lambda event: heard.append(event.build_id)):
        bus.publish(BuildLogged(build_id="1"))
        bus.publish(EnvironmentChanged(environment="shop"))
    bus.publish(BuildLogged(build_id="2"))
    assert heard == ["1"]


async def test_a_full_stream_misses_events_and_blocks_nobody() -> None:
    bus = Bus()
    with bus.subscribe(BuildLogged, EnvironmentChanged, buffer=2) as stream:
        for number in range(5):
            bus.publish(BuildLogged(build_id=str(number)))
        assert [(await stream.receive()).build_id for _ in range(2)] == ["0", "1"]  # type: ignore[attr-defined]
        bus.publish(EnvironmentChanged(environment="shop"))
        assert (await stream.receive()).environment == "shop"
    bus.publish(BuildLogged(build_id="after"))
