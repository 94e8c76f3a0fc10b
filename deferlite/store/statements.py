"""The named queries with the model's column lists filled in; read once."""

from __future__ import annotations

from deferlite.store import rows
from deferlite.store.sql import load

EXECUTIONS = load(
    "executions", execution=rows.EXECUTION_COLUMNS, claimed=rows.CLAIMED_COLUMNS, attempt=rows.ATTEMPT_COLUMNS
)
ENVIRONMENTS = load("environments", environment=rows.ENVIRONMENT_COLUMNS, execution=rows.EXECUTION_COLUMNS)
BUILDS = load("builds", build=rows.BUILD_COLUMNS, held=rows.HELD)
FUNCTIONS = load("functions", function=rows.FUNCTION_COLUMNS)
TOKENS = load("tokens", token=rows.TOKEN_COLUMNS)
LOGS = load("logs")
STATISTICS = load("statistics")
OVERVIEW = load("overview", build=rows.BUILD_COLUMNS)
