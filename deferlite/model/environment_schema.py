"""The schema of an environment file as data: which keys there are, what each may be, what comes later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union

from deferlite.model import build_checks
from deferlite.model import environment_checks as checks
from deferlite.model.environment_checks import Check, suggest
from deferlite.model.toml_lines import Path

Schema = Mapping[str, Union[Check, "Schema"]]
"""What each key may be: a value that a check takes, or a section of its own."""
ANY = "*"
"""In a schema: every key that it does not name."""

_DAY = 86400.0
_SECOND: Check = checks.duration(1, "1s", _DAY)
_LONG: Check = checks.duration(1, "1s", 365 * _DAY)
_COMMAND: Check = checks.text('"make generated"')

_FUNCTION: Schema = {
    "retry": checks.retry,
    "concurrency": checks.number(1, 100_000),
    "max_duration": _LONG,
    "max_concurrency_action": checks.choice("keep", "cancel"),
    "cron": checks.cron,
    "timezone": checks.timezone,
}
LATER = ("github", "env_from", "matrix")
"""Sections that come with their issues: their keys are not known here."""
SCHEMA: Schema = {
    "repository": checks.repository,
    "branch": checks.branch,
    "directory": checks.inside,
    "worktree": checks.flag,
    "poll": _SECOND,
    "token": checks.token,
    "build": {
        "runtime": checks.choice("python", "node"),
        "python": checks.python_version,
        "install": _COMMAND,
        "prebuild": _COMMAND,
        "functions": checks.texts('"shop.jobs"', checks.inside),
        "overrides": checks.text_table('{ "@defer/client" = "2.3.0" }'),
        "builder": build_checks.builder,
        "breaking": checks.choice("warn", "hold", "ignore"),
        "timeout": _SECOND,
    },
    "run": {
        "concurrency": checks.number(1, 100_000),
        "max_duration": _LONG,
        "memory": checks.size,
        "isolation": checks.choice("fresh", "reuse"),
        "reuse": checks.number(1, 10_000_000),
        "network": checks.flag,
        "workdir": checks.choice("project", "scratch"),
        "mounts": checks.texts('"/srv/media"', checks.mount),
        "cron": checks.flag,
    },
    "retention": {"executions": _LONG, "builds": checks.number(1, 1000)},
    "preview": {
        "branches": checks.texts('"feature/*"', checks.pattern, shortest=1),
        "expire": _LONG,
        "limit": checks.number(1, 10_000),
        "env": checks.variables,
        "cron": checks.flag,
        "concurrency": checks.number(1, 100_000),
        "max_duration": _LONG,
        "memory": checks.size,
    },
    "git": {
        "key": checks.file,
        "known_hosts": checks.file,
        "username": checks.text('"git"'),
        "token": checks.secret(1),
        "submodules": checks.flag,
    },
    "hooks": {"secret": checks.secret(16)},
    "functions": {ANY: _FUNCTION},
    "env": checks.variables,
    "notify": {"slack": checks.text('"https://hooks.slack.com/…"'), ANY: checks.anything},
    **{name: {ANY: checks.anything} for name in LATER},
}
REQUIRED: Mapping[Path, str] = {
    ("repository",): 'write repository = "/srv/shop" first',
    ("preview", "branches"): 'write branches = ["feature/*"] under [preview]',
    ("hooks", "secret"): 'write secret = { file = "/run/secrets/…" } under [hooks]',
}
"""Keys that their section needs, and how to write them."""

NOT_YET: Mapping[str, str] = {
    "notify": "nobody is told of failures",
    "github": "GitHub is told nothing",
    "env_from": "no variables are fetched from elsewhere",
    "matrix": "one environment is made, not one for each combination",
    "retention.executions": "ended executions are kept",
    "run.isolation=reuse": "every execution gets a new process",
    "build.runtime=node": "Node projects are not built",
}
"""What is accepted and does nothing in this version; with ``=VALUE``, only when that value is given."""

_SYNONYMS = {
    "repo": "repository", "url": "repository", "git": "repository", "ref": "branch", "dir": "directory",
    "folder": "directory", "path": "directory", "environment": "env", "variables": "env", "vars": "env",
    "command": "install", "schedule": "cron", "retries": "retry", "timeout": "max_duration", "ram": "memory",
}  # fmt: skip


def cure_unknown(at: Path, key: str, known: Iterable[str]) -> str:
    """A cure for a key that is not known at ``at``: it belongs elsewhere, or it is misspelt."""
    known = set(known)
    homes = [
        name
        for name, section in SCHEMA.items()
        if isinstance(section, Mapping) and key in section and name not in ("preview", *at[:1])
    ]
    synonym = _SYNONYMS.get(key.lower())
    near = synonym if synonym in known else suggest(key, known)
    if at and not near and key in SCHEMA and not isinstance(SCHEMA[key], Mapping):
        return f"{key} belongs at the top of the file, before the first [section]"
    if homes:
        return f"{key} belongs under [{homes[0]}]"
    return f'did you mean "{near}"?' if near else f"remove it; known here: {', '.join(sorted(known))}"


def not_yet(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """The keys that ask for what this version does not do, and what it does instead; ``values`` as in the file."""
    for rule, instead in NOT_YET.items():
        key, _, wanted = rule.partition("=")
        path = tuple(key.split("."))
        value = _value(values, path)
        if value == wanted if wanted else value != _value(defaults, path):
            yield path, instead


def _value(values: Any, path: Path) -> Any:
    for part in path:
        values = values.get(part) if isinstance(values, Mapping) else None
    return values
