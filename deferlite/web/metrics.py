"""GET /metrics: what the store counts, for Prometheus. Everything is read at the scrape; nothing is kept here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deferlite.model.clock import SECOND
from deferlite.model.execution import State
from deferlite.store.statistics import BuildCount, ExecutionCount
from deferlite.web.services import Services

_RUNNING = (State.STARTED, State.ABORTING)


def routes(services: Services) -> list[Route]:
    async def metrics(request: Request) -> Response:
        executions = await services.store.statistics.executions()
        builds = await services.store.statistics.builds()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Read([*_server(services), _executions(executions), _running(executions), _builds(builds)]))
        headers = {"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"}
        return Response(generate_latest(registry), headers=headers)

    return [Route("/metrics", metrics)]


class _Read(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _server(services: Services) -> Iterator[Metric]:
    about = {"version": services.version, "sandbox": services.sandbox.level.value}
    yield InfoMetricFamily("deferlite", "This server.", about)
    started = services.started_at / SECOND
    yield GaugeMetricFamily("deferlite_start_time_seconds", "Start of this server, seconds since 1970.", started)
    limit = services.settings.concurrency
    yield GaugeMetricFamily("deferlite_concurrency_limit", "Executions that this server runs at once.", limit)


def _executions(counts: Iterable[ExecutionCount]) -> Metric:
    # A gauge: old executions are removed, and an execution leaves the states it passes through.
    labels = ("environment", "function", "state")
    metric = GaugeMetricFamily("deferlite_executions", "Executions there are, by state.", labels=labels)
    for each in counts:
        metric.add_metric((each.environment, each.function_name, each.state.value), each.count)
    return metric


def _running(counts: Iterable[ExecutionCount]) -> Metric:
    running: dict[str, int] = {}
    for each in counts:
        running[each.environment] = running.get(each.environment, 0) + each.count * (each.state in _RUNNING)
    metric = GaugeMetricFamily("deferlite_executions_running", "Executions that run now.", labels=("environment",))
    for environment, count in running.items():
        metric.add_metric((environment,), count)
    return metric


def _builds(counts: Iterable[BuildCount]) -> Metric:
    metric = GaugeMetricFamily("deferlite_builds", "Builds there are, by state.", labels=("environment", "state"))
    for each in counts:
        metric.add_metric((each.environment, each.state.value), each.count)
    return metric
