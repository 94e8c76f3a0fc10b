"""What a good environment file becomes, and where its keys stand."""

from __future__ import annotations

import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deferlite.model.environment import (
    EnvironmentConfig,
    GitSettings,
    HookSettings,
    PreviewSettings,
    build_inputs,
    is_remote,
    overlay,
)
from deferlite.model.environment_file import parse
from deferlite.model.environment_schema import NOT_YET
from deferlite.model.function import FunctionOptions
from deferlite.model.toml_lines import key_lines
from deferlite.sdk.retry import RetryPolicy

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONTRACT = """
repository = "/srv/shop"
branch = "main"
directory = "./apps/api/"
worktree = false
poll = "1m"
token = "0123456789abcdefghijkl"
[build]
runtime = "python"
python = "3.12"
install = "make install"
prebuild = "make generated"
functions = ["shop.jobs", "lib/jobs/"]
overrides = { "@defer/client" = "2.3.0" }
builder = "0.4.0rc1"
breaking = "hold"
timeout = "30m"
[run]
concurrency = 12
max_duration = "1h"
memory = "1GB"
isolation = "reuse"
reuse = 500
network = false
workdir = "scratch"
mounts = ["/srv/media", "/srv/up/:rw", "/srv/x:ro"]
cron = false
[functions.import_contacts]
concurrency = 2
retry = { max_attempts = 5, initial_interval = "1m" }
max_duration = "10m"
max_concurrency_action = "cancel"
cron = "0 8 * * *"
timezone = "Europe/Paris"
[env]
STRIPE_KEY = "…"
DATABASE_URL = { file = "/run/secrets/db" }
DEFER_TOKEN = "mine"
[preview]
branches = ["feature/*", "qa/*"]
expire = "7d"
limit = 20
env = { STRIPE_KEY = "sk_test" }
cron = true
concurrency = 2
max_duration = "5m"
memory = "64MiB"
[git]
key = "/run/secrets/key"
known_hosts = "/run/secrets/known_hosts"
username = "deploy"
token = { file = "/run/secrets/token" }
submodules = false
[hooks]
secret = "0123456789abcdef"
[notify]
slack = "https://example.org/hook"
email = "me@example.org"
[retention]
executions = "30d"
builds = 3
[github]
repository = "acme/shop"
"""


def good(text: str) -> EnvironmentConfig:
    parsed = parse(text, "staging", "staging.toml")
    assert parsed.error == ""
    assert parsed.config is not None
    return parsed.config


def test_the_whole_schema_of_the_contract() -> None:
    config = good(CONTRACT)
    assert (config.directory, config.poll, config.token) == ("apps/api", 60.0, "0123456789abcdefghijkl")
    assert config.build.functions == ("shop.jobs", "lib/jobs")
    assert config.build.timeout == 1800.0
    assert (config.run.concurrency, config.run.max_duration, config.run.memory) == (12, 3600.0, 10**9)
    assert config.run.mounts == ("/srv/media", "/srv/up:rw", "/srv/x")
    assert config.env == {"STRIPE_KEY": "…", "DATABASE_URL": {"file": "/run/secrets/db"}}
    assert config.preview == PreviewSettings(
        branches=("feature/*", "qa/*"),
        expire=604800.0,
        limit=20,
        env={"STRIPE_KEY": "sk_test"},
        cron=True,
        concurrency=2,
        max_duration=300.0,
        memory=64 * 2**20,
    )
    assert config.git == GitSettings(
        key="/run/secrets/key",
        known_hosts="/run/secrets/known_hosts",
        username="deploy",
        token={"file": "/run/secrets/token"},
        submodules=False,
    )
    assert config.hooks == HookSettings(secret="0123456789abcdef")
    assert (config.build.breaking, config.build.builder) == ("hold", "0.4.0rc1")
    assert (config.retention_executions, config.retention_builds) == (30 * 86400.0, 3)


def test_settings_survive_the_store_and_the_options_of_a_function_win_over_its_code() -> None:
    config = good(CONTRACT)
    again = msgspec.json.decode(msgspec.json.encode(config), type=EnvironmentConfig)
    assert again.functions == config.functions
    for settings in (config.functions["import_contacts"], again.functions["import_contacts"]):
        options = overlay(FunctionOptions(concurrency=9), settings)
        assert options.concurrency == 2
        assert options.retry == RetryPolicy(max_attempts=5, initial_interval=60.0)
        assert (options.max_duration, options.cron, options.timezone) == (600.0, "0 8 * * *", "Europe/Paris")


def test_what_comes_later_yields_a_note_with_file_and_line_for_each() -> None:
    notes = parse(CONTRACT, "staging", "staging.toml").notes
    lines = CONTRACT.splitlines()
    told = {}
    for note in notes:
        place, _, rest = note.partition(": ")
        key = rest.split(" ")[0]
        told[key] = lines[int(place.removeprefix("staging.toml, line ")) - 1]
    assert told["notify"] == "[notify]"
    assert told["github"] == "[github]"
    assert told["env.DEFER_TOKEN"].startswith("DEFER_TOKEN")
    for rule in NOT_YET:
        path, _, wanted = rule.partition("=")
        if path not in ("env_from", "matrix") and wanted != "node":
            assert path in told, rule


def test_git_settings_of_a_repository_on_this_machine_are_not_used() -> None:
    (note,) = parse('repository = "/a"\n[git]\ntoken = "x"\n', "a", "a.toml").notes
    assert note == "a.toml, line 2: git is not used: the repository is on this machine"
    assert parse('repository = "/a"\n[git]\nsubmodules = false\n', "a", "a.toml").notes == ()


def test_two_lines_are_enough_and_say_nothing() -> None:
    parsed = parse('repository = "/srv/shop"\nbranch = "main"\n', "a", "a.toml")
    assert parsed.config == EnvironmentConfig(repository="/srv/shop", branch="main")
    assert parsed.notes == ()


@pytest.mark.parametrize(
    ("where", "remote"),
    [
        ("/srv/shop", False),
        ("/srv/odd:name", False),
        ("https://example.org/a.git", True),
        ("ssh://git@example.org:22/a", True),
        ("git@example.org:acme/shop.git", True),
        ("host:shop", True),
        ("file:///srv/shop", True),
        ("git://example.org/a", True),
    ],
)
def test_where_a_repository_may_be(where: str, remote: bool) -> None:
    assert good(f'repository = "{where}"\n').repository == where
    assert is_remote(where) is remote


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ('"512MiB"', 512 * 2**20),
        ('"1GB"', 10**9),
        ('"1.5 GiB"', 3 * 2**29),
        ('"64m"', 64 * 2**20),
        ("33554432", 2**25),
    ],
)
def test_sizes(written: str, size: int) -> None:
    assert good(f'repository = "/a"\n[run]\nmemory = {written}\n').run.memory == size


def test_cron_false_switches_a_functions_own_cron_off() -> None:
    config = good('repository = "/a"\n[functions.a]\ncron = false\n')
    assert overlay(FunctionOptions(cron="* * * * *"), config.functions["a"]).cron is None


def test_only_some_settings_affect_a_build() -> None:
    plain = good('repository = "/a"\n')
    for text in (
        "[run]\nconcurrency = 3\n",
        '[build]\ntimeout = "1h"\n',
        '[build]\nbreaking = "hold"\n',
        'poll = "5s"\n',
        "[retention]\nbuilds = 9\n",
        '[preview]\nbranches = ["x"]\n',
        '[hooks]\nsecret = "0123456789abcdef"\n',
    ):
        assert build_inputs(good(f'repository = "/a"\n{text}')) == build_inputs(plain), text
    for text in (
        'branch = "x"\n',
        'directory = "x"\n',
        '[build]\ninstall = "x"\n',
        '[build]\nbuilder = "0.5"\n',
        "[git]\nsubmodules = false\n",
        '[env]\nA = "x"\n',
    ):
        assert build_inputs(good(f'repository = "/a"\n{text}')) != build_inputs(plain), text


TRICKY = '''# [not.a.table] = "no"
title = """
[nor.this]
key = "x" """
"quoted.key" = 1
'li teral'.b."c\\"d" = [
  "one", # a comment ]
  """two
lines""", { x = "}", y = [1,
  2] },
]
when = 1979-05-27 07:32:00
[a . b]
c.d = {e.f = 'g,h', i = {}}
[[list]]
x = \'\'\'
[[list]]
\'\'\'
[[list]]
x = 2
[list.sub]
y = 3
'''


def test_lines_of_keys_that_look_like_others() -> None:
    lines = key_lines(TRICKY)
    assert lines[("title",)] == 2
    assert lines[("quoted.key",)] == 5
    assert lines[("li teral", "b", 'c"d')] == 6
    assert lines[("li teral", "b", 'c"d', 0)] == 7
    assert lines[("li teral", "b", 'c"d', 1)] == 8
    assert lines[("li teral", "b", 'c"d', 2, "x")] == 9
    assert lines[("li teral", "b", 'c"d', 2, "y", 1)] == 10
    assert lines[("when",)] == 12
    assert lines[("a", "b", "c", "d", "e", "f")] == 14
    assert lines[("a", "b", "c", "d", "i")] == 14
    assert lines[("list", 0, "x")] == 16
    assert lines[("list", 1, "x")] == 20
    assert lines[("list", 1, "sub", "y")] == 22


TEXTS = st.text(alphabet=st.sampled_from("ab \n[]{}=#,.\"'\\é"), max_size=12)
KEYS = st.text(alphabet=st.sampled_from("ab c.#=[\"'"), min_size=1, max_size=4)


def written(text: str) -> str:
    """A TOML text in the way that its length picks."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"""{escaped}"""' if len(text) % 2 else '"' + escaped.replace("\n", "\\n") + '"'


@given(st.dictionaries(KEYS, TEXTS, min_size=1, max_size=6), st.lists(TEXTS, max_size=3))
def test_every_key_is_found_on_its_line_whatever_the_values_hold(values: dict[str, str], items: list[str]) -> None:
    text, expected = "", {}
    for key, value in values.items():
        text += "# a comment = [\n"
        expected[(key,)] = text.count("\n") + 1
        quoted = key.replace('"', '\\"')
        parts = ", ".join(map(written, items))
        text += f'"{quoted}" = {{ v = {written(value)}, l = [{parts}] }}\n'
    parsed = tomllib.loads(text)
    lines = key_lines(text)
    assert list(parsed) == list(values)
    assert {path: lines[path] for path in expected} == expected
