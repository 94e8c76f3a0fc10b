"""The schema of an environment file as data: which keys there are, what each may be, what comes later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from deferlite.model import environment_checks as checks
from deferlite.model.environment_checks import Check, suggest
from deferlite.model.toml_lines import Path

_DAY = 86400.0
_SECOND: Check = checks.duration(1, "1s", _DAY)
_LONG: Check = checks.duration(1, "1s", 365 * _DAY)
_COMMAND: Check = checks.text('"make generated"')

TOP: Mapping[str, Check] = {
    "repository": checks.repository,
    "branch": checks.branch,
    "directory": checks.inside,
    "worktree": checks.flag,
    "poll": _SECOND,
    "token": checks.token,
}
SECTIONS: Mapping[str, Mapping[str, Check]] = {
    "build": {
        "runtime": checks.choice("python", "node"),
        "python": checks.python_version,
        "install": _COMMAND,
        "prebuild": _COMMAND,
        "functions": checks.texts('"shop.jobs"', checks.inside),
        "overrides": checks.text_table('{ "@defer/client" = "2.3.0" }'),
        "builder": checks.text('"0.4.0rc1"'),
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
        "branches": checks.texts('"feature/*"', checks.pattern),
        "expire": _LONG,
        "limit": checks.number(1, 10_000),
        "env": checks.any_table,
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
    "notify": {"slack": checks.text('"https://hooks.slack.com/…"')},
}
FUNCTION: Mapping[str, Check] = {
    "retry": checks.retry,
    "concurrency": checks.number(1, 100_000),
    "max_duration": _LONG,
    "max_concurrency_action": checks.choice("keep", "cancel"),
    "cron": checks.cron,
    "timezone": checks.timezone,
}
LATER = ("github", "env_from", "matrix")
"""Sections that come with their issues: their keys are not known here."""

OPEN_SECTIONS = ("notify",)
"""Sections that take keys nobody here knows yet."""

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
    """A cure for a key that is not known here: it belongs elsewhere, or it is misspelt."""
    known = set(known)
    if key in TOP:
        return f"{key} belongs at the top of the file, before the first [section]"
    homes = [name for name, schema in SECTIONS.items() if key in schema and name not in ("preview", str(at and at[0]))]
    if homes:
        return f"{key} belongs under [{homes[0]}]"
    synonym = _SYNONYMS.get(key.lower())
    near = synonym if synonym in known else suggest(key, known)
    return f'did you mean "{near}"?' if near else f"remove it; known here: {', '.join(sorted(known))}"
