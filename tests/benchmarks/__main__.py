"""``make bench``: the figures of this machine, printed as one table, or as JSON with ``--json``.

Each figure is the median of several rounds against one real server with its sandbox on. Machines are noisy: compare
ratios within one run, not figures of two days.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from tests.support import Client, Repository, Server

JOBS = """
import time
from deferlite import defer

VERSION = 0

@defer
def nothing():
    return None

@defer
def started():
    return time.time()

@defer
def version():
    return VERSION
"""


class Bench:
    def __init__(self, server: Server, repository: Repository, rounds: int) -> None:
        self.server = server
        self.repository = repository
        self.rounds = rounds
        self.client = server.client("bench")
        self.figures: dict[str, float] = {}

    def record(self, name: str, value: float, unit: str) -> None:
        self.figures[f"{name} ({unit})"] = round(value, 2)
        print(f"{name:<58} {value:>12,.2f} {unit}", file=sys.stderr)

    def median(self, name: str, unit: str, measure: Callable[[], float]) -> None:
        self.record(name, statistics.median(measure() for _ in range(self.rounds)), unit)

    def commit_to_live(self) -> None:
        """From the moment ``git commit`` has returned to the build being live."""
        spans = []
        for number in range(1, self.rounds * 3 + 1):
            text = JOBS.replace("VERSION = 0", f"VERSION = {number}")
            commit = self.repository.commit(f"version {number}", {"jobs.py": text})
            committed = time.time()
            build = self.server.until_built("bench", commit)
            spans.append(datetime.fromisoformat(build["finished_at"]).timestamp() - committed)
            assert self.client.call("version") == ("succeed", number)
        self.record("git commit to live, dependencies unchanged, median", statistics.median(spans), "s")

    def start_latency(self) -> None:
        """From before the PUT to the first line of the function, one at a time on an idle server."""
        spans = []
        for _ in range(300):
            before = time.time()
            _, at = self.client.call("started")
            spans.append((at - before) * 1000)
        cuts = statistics.quantiles(spans, n=100)
        self.record("enqueue to start over HTTP, idle, p50", statistics.median(spans), "ms")
        self.record("enqueue to start over HTTP, idle, p99", cuts[98], "ms")

    def round_trip(self) -> None:
        spans = []
        for _ in range(300):
            before = time.perf_counter()
            self.client.call("nothing")
            spans.append((time.perf_counter() - before) * 1000)
        self.record("enqueue and wait for the result, p50", statistics.median(spans), "ms")

    def drain(self, count: int = 2000) -> float:
        """Executions a second from the first start to the last end, by the server's own record."""
        ids = self.client.enqueue_many("nothing", [()] * count)
        with self.server.admin() as admin:
            for execution_id in reversed(ids):
                self.client.wait(execution_id)
            rows = [admin.get(f"/executions/{i}").json()["data"] for i in (ids[0], *ids[-8:])]
        moment = [datetime.fromisoformat(row[key]).timestamp() for row in rows for key in ("started_at", "finished_at")]
        return count / (max(moment) - min(moment))

    def enqueue_one_by_one(self, count: int = 1000) -> float:
        started = time.perf_counter()
        for _ in range(count):
            self.client.enqueue("nothing", schedule_for="2099-01-01T00:00:00Z")
        return count / (time.perf_counter() - started)

    def enqueue_concurrently(self, producers: int = 32, each: int = 60) -> float:
        clients = [Client(self.server.url, self.client.token) for _ in range(producers)]

        def produce(client: Client) -> None:
            for _ in range(each):
                client.enqueue("nothing", schedule_for="2099-01-01T00:00:00Z")

        started = time.perf_counter()
        with ThreadPoolExecutor(producers) as pool:
            list(pool.map(produce, clients))
        return producers * each / (time.perf_counter() - started)

    def enqueue_batch(self, size: int = 5000) -> float:
        bodies = [{"function_name": "nothing", "schedule_for": "2099-01-01T00:00:00Z"}] * size
        body = json.dumps({"executions": bodies})
        started = time.perf_counter()
        answer = self.client.http.put("/executions/batch", content=body)
        assert answer.status_code == 201, answer.text
        return size / (time.perf_counter() - started)

    def run(self) -> None:
        self.commit_to_live()
        self.start_latency()
        self.round_trip()
        self.median("drained, a fresh process each", "executions/s", self.drain)
        self.median("acknowledged enqueues over HTTP, one at a time", "per s", self.enqueue_one_by_one)
        self.median("acknowledged enqueues over HTTP, 32 producers", "per s", self.enqueue_concurrently)
        self.median("acknowledged enqueues over HTTP, batches of 5,000", "per s", self.enqueue_batch)


def main() -> None:
    options = argparse.ArgumentParser(prog="make bench", description=__doc__)
    options.add_argument("--json", action="store_true")
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="deferlite-bench-") as folder:
        repository = Repository(Path(folder) / "project", {"jobs.py": JOBS})
        with Server(Path(folder) / "home", "--log-level", "warning") as server:
            server.add("bench", f'repository = "{repository.path}"\n')
            build = server.until_built("bench")
            assert build["state"] == "succeed", build
            bench = Bench(server, repository, chosen.rounds)
            bench.run()
            with server.admin() as admin:
                sandbox = admin.get("/status").json()["sandbox"]["level"]
    if chosen.json:
        print(json.dumps({"sandbox": sandbox, "figures": bench.figures}, indent=2))


if __name__ == "__main__":
    main()
