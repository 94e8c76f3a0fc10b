"""``deferlite environments`` shows which environment is a preview of which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deferlite.model.environment import EnvironmentConfig, Preview, PreviewSettings
from tests.unit.cli_fixtures import publish, request, server

pytestmark = pytest.mark.anyio


async def test_previews_stand_under_their_environment(tmp_path: Path) -> None:
    base = EnvironmentConfig(repository="/srv/shop", preview=PreviewSettings(branches=("feature/*",)))
    async with server(tmp_path) as (store, run):
        await store.environments.apply("production", base, "production.toml")
        await store.environments.apply("production-eu", EnvironmentConfig(repository="/srv/shop"), "eu.toml")
        for name, branch in (("production--feature-y", "feature/y"), ("a-name-of-its-own", "feature/x")):
            config = EnvironmentConfig(repository="/srv/shop", branch=branch)
            preview = Preview(of="production", branch=branch)
            await store.environments.apply(name, config, "production.toml", preview)
        await store.environments.note("production", "no place for feature/z")
        result = await run("environments")
        rows = [line.split("\t") for line in result.stdout.splitlines()]
        assert [(row[0], row[-1]) for row in rows] == [
            ("production", "-"),
            ("a-name-of-its-own", "production (feature/x)"),
            ("production--feature-y", "production (feature/y)"),
            ("production-eu", "-"),
        ]
        assert "production: no place for feature/z" in result.stderr
        shown = json.loads((await run("environments", "--json")).stdout)
        assert shown[0]["preview"] is None
        assert shown[1]["preview"]["of"] == "production"


async def test_the_state_is_what_file_and_builds_come_to(tmp_path: Path) -> None:
    async with server(tmp_path) as (store, run):

        async def state() -> str:
            return str((await run("environments", "--retired")).stdout.split("\t")[1])

        assert await state() == "live"
        await publish(store)
        await store.builds.rollback("production", None)
        assert await state() == "live, stays"
        assert "stays at build #1 until" in (await run("environments")).stderr
        build = await request(store)
        assert await state() == "building"
        await store.builds.fail(build, "no")
        assert await state() == "build failed"
        await store.environments.report("production", "it is gone")
        assert await state() == "live, no repository"
        await store.environments.reject("production", "line 1: no", "production.toml")
        assert await state() == "broken file"
        await store.environments.retire("production")
        assert await state() == "retired"
