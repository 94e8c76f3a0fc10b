"""From a claimed execution to the order that an executor carries out."""

from __future__ import annotations

from collections.abc import Mapping

from deferlite.executors.base import Order
from deferlite.model.execution import Claimed
from deferlite.model.function import FunctionSpec
from deferlite.model.ids import ExecutionTokens


class OrderBook:
    """Writes orders; ``endpoint`` is the address at which executions reach this server."""

    def __init__(self, tokens: ExecutionTokens, endpoint: str) -> None:
        self._tokens = tokens
        self._endpoint = endpoint

    def write(
        self,
        claimed: Claimed,
        spec: FunctionSpec,
        commit: str | None,
        variables: Mapping[str, str],
        max_duration: float,
    ) -> Order:
        """The order for one attempt; ``variables`` is the environment's ``[env]``, ``max_duration`` in seconds."""
        return Order(
            id=claimed.id,
            attempt=claimed.attempt,
            environment=claimed.environment,
            build_id=claimed.build_id,
            function_name=claimed.function_name,
            module=spec.module,
            attribute=spec.attribute,
            arguments=claimed.arguments,
            keyword_arguments=claimed.keyword_arguments,
            env={**variables, **self._reserved(claimed, commit)},
            max_duration=max_duration,
        )

    def _reserved(self, claimed: Claimed, commit: str | None) -> dict[str, str]:
        return {
            "DEFER_TOKEN": self._tokens.issue(claimed.id, claimed.attempt),
            "DEFER_ENDPOINT": self._endpoint,
            "DEFER_EXECUTION_ID": claimed.id,
            "DEFER_ENVIRONMENT": claimed.environment,
            "DEFER_FUNCTION": claimed.function_name,
            "DEFER_ATTEMPT": str(claimed.attempt),
            "DEFER_BUILD_ID": claimed.build_id,
            "DEFER_COMMIT": commit or "",
            "TZ": "UTC",
        }
