"""Environments and their tokens."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from deferlite.model.environment import EnvironmentConfig, EnvironmentState
from deferlite.model.errors import Conflict, NotFound, UnknownFunction
from deferlite.model.events import EnvironmentChanged

pytestmark = pytest.mark.anyio

CONFIG = EnvironmentConfig(repository="/srv/shop", env={"KEY": "v", "URL": {"file": "/run/secrets/url"}})


async def test_applied_settings_are_read_back(world: Any) -> None:
    applied = await world.store.environments.apply("shop", CONFIG, "shop.toml")
    assert (applied.state, applied.config, applied.error) == (EnvironmentState.ACTIVE, CONFIG, None)
    assert await world.store.environments.get("shop") == applied
    with pytest.raises(NotFound, match='no environment "unknown"'):
        await world.store.environments.get("unknown")


async def test_what_is_in_force_already_is_not_told_again(world: Any) -> None:
    await world.store.environments.apply("shop", CONFIG, "shop.toml")
    await world.store.environments.apply("shop", CONFIG, "shop.toml")
    await world.store.environments.reject("shop", "line 3: no", "shop.toml")
    await world.store.environments.reject("shop", "line 3: no", "shop.toml")
    assert world.heard(EnvironmentChanged) == [EnvironmentChanged(environment="shop")] * 2


async def test_a_broken_file_keeps_the_last_good_settings(world: Any) -> None:
    await world.store.environments.apply("shop", CONFIG, "shop.toml")
    broken = await world.store.environments.reject("shop", "line 3: no", "shop.toml")
    assert (broken.state, broken.config, broken.error) == (EnvironmentState.ACTIVE, CONFIG, "line 3: no")
    assert (await world.store.environments.apply("shop", CONFIG, "shop.toml")).error is None


async def test_a_file_that_was_never_good_is_listed_with_its_fault(world: Any) -> None:
    await world.store.environments.reject("shop", "line 1: no", "shop.toml")
    (environment,) = await world.store.environments.list()
    assert (environment.config, environment.error) == (None, "line 1: no")


async def test_a_retired_environment_is_history_until_its_file_is_back(world: Any) -> None:
    await world.live()
    await world.store.environments.retire("shop")
    await world.store.environments.retire("never-was")
    assert await world.store.environments.list() == []
    (retired,) = await world.store.environments.list(include_retired=True)
    assert (retired.name, retired.state) == ("shop", EnvironmentState.RETIRED)
    await world.store.environments.apply("shop", CONFIG, "shop.toml")
    assert (await world.enqueue()).environment == "shop"


async def test_the_watchers_finding_is_kept_until_it_is_gone(world: Any) -> None:
    await world.store.environments.apply("shop", CONFIG, "shop.toml")
    world.events.clear()
    for problem in ("no branch main", "no branch main", None):
        await world.store.environments.report("shop", problem)
        assert (await world.store.environments.get("shop")).problem == problem
    assert len(world.heard(EnvironmentChanged)) == 2


async def test_functions_by_name_and_id(world: Any, make_spec: Any) -> None:
    function = await world.live("a")
    await world.publish(make_spec("b"))
    with pytest.raises(UnknownFunction):
        await world.store.functions.get("shop", "a")
    assert not (await world.store.functions.by_id(function.id)).active
    for call in (world.store.functions.by_id, world.store.functions.spec):
        with pytest.raises(NotFound):
            await call("unknown")


async def test_a_token_opens_its_environment_until_it_is_revoked(world: Any) -> None:
    tokens = world.store.tokens
    with pytest.raises(NotFound):
        await tokens.create("shop")
    await world.store.environments.apply("shop", CONFIG, "shop.toml")
    info, token = await tokens.create("shop", "laptop")
    assert (info.environment, info.name, info.revoked_at) == ("shop", "laptop", None)
    assert await tokens.verify(token) == "shop"
    assert await tokens.verify(token[:-1]) is None
    await world.reopen()
    tokens = world.store.tokens
    assert await tokens.verify(token) == "shop"
    await tokens.revoke("shop", info.id)
    assert await tokens.verify(token) is None
    assert [row.revoked_at for row in await tokens.list("shop")] == [world.clock.now()]
    with pytest.raises(NotFound):
        await tokens.revoke("other", info.id)


async def test_no_token_opens_a_retired_environment(world: Any) -> None:
    await world.store.environments.apply("shop", CONFIG, "shop.toml")
    _, token = await world.store.tokens.create("shop")
    await world.store.environments.retire("shop")
    assert await world.store.tokens.verify(token) is None
    await world.store.environments.apply("shop", CONFIG, "shop.toml")
    assert await world.store.tokens.verify(token) == "shop"


async def test_the_files_token_follows_the_file(world: Any) -> None:
    tokens = world.store.tokens

    async def apply(token: str | None, name: str = "shop") -> None:
        config = EnvironmentConfig(repository="/r", token=token)
        assert (await world.store.environments.apply(name, config, "f")).config.token is None

    await apply("first-secret")
    assert await tokens.verify("first-secret") == "shop"
    (info,) = await tokens.list("shop")
    with pytest.raises(Conflict, match="environment's file"):
        await tokens.revoke("shop", info.id)
    await apply("second-secret")
    assert [await tokens.verify(token) for token in ("first-secret", "second-secret")] == [None, "shop"]
    with pytest.raises(Conflict, match='the token of "other" is one of "shop" already'):
        await apply("second-secret", "other")
    await apply(None)
    assert await tokens.verify("second-secret") is None


async def test_no_token_is_on_disk(world: Any) -> None:
    config = EnvironmentConfig(repository="/r", token="secret-of-the-file")
    await world.store.environments.apply("shop", config, "f")
    await world.request()
    _, token = await world.store.tokens.create("shop")
    connection = sqlite3.connect(world.path)
    dump = "\n".join(connection.iterdump())
    connection.close()
    assert token not in dump
    assert "secret-of-the-file" not in dump
