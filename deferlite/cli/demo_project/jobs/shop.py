"""A small shop's background work: a call each for plain work, retries, a workflow and a schedule."""

import logging
import random
import time
from datetime import timedelta

import humanize

from deferlite import await_result, current_execution, defer

log = logging.getLogger(__name__)


@defer
def greet(name: str) -> str:
    print(f"greeting {name}")
    return f"Hello, {name}!"


@defer(retry={"max_attempts": 5, "initial_interval": 1, "multiplier": 1.5})
def charge(order: int, amount: float) -> dict:
    """Fails at its first attempt, as payment providers do."""
    if current_execution().attempt == 1:
        raise ConnectionError("the payment provider does not answer")
    log.info("order %d is charged", order)
    return {"order": order, "amount": amount, "paid": True}


@defer(concurrency=4, max_duration="1m")
def resize(picture: str) -> str:
    seconds = random.uniform(0.05, 0.3)
    time.sleep(seconds)
    return f"{picture} resized in {humanize.precisedelta(timedelta(seconds=seconds), minimum_unit='milliseconds')}"


@defer
def publish_album(pictures: list) -> dict:
    """A workflow: a parent that enqueues children and waits for them."""
    results = [await_result(resize)(picture) for picture in pictures]
    log.info("%d pictures are ready", len(results))
    return {"pictures": results}


@defer.cron("* * * * *")
def heartbeat() -> str:
    print("still there")
    return "ok"
