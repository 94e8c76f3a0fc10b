"""Every way to get an environment file wrong: the fault names the line, the key and the cure."""

from __future__ import annotations

import pytest

from deferlite.model.environment_file import parse, parse_bytes

R = 'repository = "/srv/shop"\n'

CASES = {
    # text, line, key, part of the cure
    "empty file": ("", 1, "repository", 'repository = "/srv/shop"'),
    "only comments": ("# nothing yet\n\n", 1, "repository", 'repository = "/srv/shop"'),
    "no repository": ('branch = "main"\n', 1, "repository", 'repository = "/srv/shop"'),
    "repository misspelt": ('\nrepositry = "/srv/shop"\n', 2, "repositry", 'did you mean "repository"?'),
    "repository by another word": ('repo = "/srv/shop"\n', 1, "repo", 'did you mean "repository"?'),
    "repository empty": ('repository = ""\n', 1, "repository", "/srv/shop"),
    "repository a number": ("repository = 7\n", 1, "repository", "between quotes"),
    "repository not a whole path": ('repository = "shop"\n', 1, "repository", '"/srv/shop"'),
    "repository at home": ('repository = "~/shop"\n', 1, "repository", "/home/you/shop"),
    "repository an option": ('repository = "--upload-pack=x"\n', 1, "repository", '"/srv/shop"'),
    "repository that runs a command": ('repository = "ext::sh -c x"\n', 1, "repository", "https"),
    "repository with a password that has a slash": ('repository = "https://me:a/b@x/y"\n', 1, "repository", "%2F"),
    "repository of an unknown transport": ('repository = "ftp://x/y"\n', 1, "repository", "use one of https"),
    "branch a full reference": (R + 'branch = "refs/heads/main"\n', 2, "branch", '"main"'),
    "branch a tag": (R + 'branch = "refs/tags/v1"\n', 2, "branch", '"main"'),
    "branch with a space": (R + 'branch = "my branch"\n', 2, "branch", '"git branch" shows it'),
    "branch with two dots": (R + 'branch = "a..b"\n', 2, "branch", '"git branch" shows it'),
    "directory absolute": (R + '# x\ndirectory = "/apps/api"\n', 3, "directory", '"apps/api"'),
    "directory escapes": (R + 'directory = "../other"\n', 2, "directory", "inside the repository"),
    "worktree a text": (R + 'worktree = "yes"\n', 2, "worktree", "true or false, without quotes"),
    "worktree of a remote": (
        'repository = "https://example.org/a.git"\nworktree = true\n',
        2,
        "worktree",
        "name a folder in repository",
    ),
    "poll without a unit": (R + 'poll = "30"\n', 2, "poll", '"30s"'),
    "poll too often": (R + 'poll = "10ms"\n', 2, "poll", 'at least "1s"'),
    "token too easy": (R + 'token = "secret"\n', 2, "token", "openssl rand -hex 32"),
    "token of one sign": (R + f'token = "{"a" * 40}"\n', 2, "token", "openssl rand -hex 32"),
    "token a number": (R + "token = 12345678901234567\n", 2, "token", "openssl rand -hex 32"),
    "unknown key": (R + "colour = 3\n", 2, "colour", "known here: "),
    "unknown section": (R + "[bulid]\n", 2, "bulid", 'did you mean "build"?'),
    "section as a value": (R + "build = 3\n", 2, "build", "[section]"),
    "top key under a section": (R + '[build]\nbranch = "main"\n', 3, "build.branch", "top of the file"),
    "section key at the top": (R + "concurrency = 3\n", 2, "concurrency", "belongs under [run]"),
    "key of another section": (R + '[run]\ntimeout = "1h"\n', 3, "run.timeout", "belongs under [build]"),
    "camel case": (R + '[run]\nmaxDuration = "1h"\n', 3, "run.maxDuration", 'did you mean "max_duration"?'),
    "runtime unknown": (R + '[build]\nruntime = "pyton"\n', 3, "build.runtime", 'did you mean "python"?'),
    "python a number": (R + "[build]\npython = 3.10\n", 3, "build.python", '"3.12"'),
    "python a word": (R + '[build]\npython = "newest"\n', 3, "build.python", '"3.12"'),
    "timeout a word": (R + '[build]\n\ntimeout = "soon"\n', 4, "build.timeout", '"30s"'),
    "timeout zero": (R + "[build]\ntimeout = 0\n", 3, "build.timeout", 'at least "1s"'),
    "functions a text": (R + '[build]\nfunctions = "shop.jobs"\n', 3, "build.functions", '["shop.jobs"]'),
    "functions out of the project": (
        R + '[build]\nfunctions = [\n  "shop.jobs",\n  "../x",\n]\n',
        5,
        "build.functions[1]",
        "inside the repository",
    ),
    "overrides with a number": (R + "[build]\noverrides = { django = 5 }\n", 3, "build.overrides", "2.3.0"),
    "overrides with no version": (
        R + '[build.overrides]\ndjango = "5.0"\nflask = ">>2"\n',
        4,
        "build.overrides.flask",
        '">=2,<3"',
    ),
    "builder a word": (R + '[build]\nbuilder = "newest"\n', 3, "build.builder", '"0.4.0rc1" or "/srv/deferlite"'),
    "builder not a whole path": (R + '[build]\nbuilder = "../deferlite"\n', 3, "build.builder", "begin it with /"),
    "builder at home": (R + '[build]\nbuilder = "~/deferlite"\n', 3, "build.builder", "begin it with /"),
    "memory without a unit": (R + "[run]\nmemory = 512\n", 3, "run.memory", '"512MiB"'),
    "memory of a strange unit": (R + '[run]\nmemory = "512 MBit"\n', 3, "run.memory", '"512MiB"'),
    "memory negative": (R + "[run]\nmemory = -1\n", 3, "run.memory", '"512MiB"'),
    "concurrency zero": (R + "[run]\nconcurrency = 0\n", 3, "run.concurrency", "from 1 to"),
    "concurrency true": (R + "[run]\nconcurrency = true\n", 3, "run.concurrency", "from 1 to"),
    "isolation unknown": (R + '[run]\nisolation = "re-use"\n', 3, "run.isolation", 'did you mean "reuse"?'),
    "mount of the system": (R + '[run]\nmounts = ["/"]\n', 3, "run.mounts[0]", "folder that the functions need"),
    "mount not a whole path": (R + '[run]\nmounts = ["/srv/a", "media"]\n', 3, "run.mounts[1]", '"/srv/media"'),
    "mount of a strange mode": (R + '[run]\nmounts = ["/srv/a:w"]\n', 3, "run.mounts[0]", '"/srv/a:rw"'),
    "variable a number": (R + "[env]\nPORT = 8080\n", 3, "env.PORT", 'write PORT = "8080"'),
    "variable a boolean": (R + "[env]\nDEBUG = true\n", 3, "env.DEBUG", 'write DEBUG = "true"'),
    "variable of a bad name": (R + '[env]\n"A B" = "x"\n', 3, "env.A B", "letters, digits and _"),
    "variable of a strange table": (R + '[env]\nA = { path = "/x" }\n', 3, "env.A", 'A = { file = "'),
    "variable of a relative file": (R + '[env]\nA = { file = "x" }\n', 3, "env.A", 'file = "/run/secrets/'),
    "env a text": (R + 'env = "A=1"\n', 2, "env", 'NAME = "value"'),
    "function without a name": (R + "[functions]\nconcurrency = 2\n", 3, "functions.concurrency", "[functions.NAME]"),
    "function option misspelt": (
        R + "[functions.mail]\nconcurency = 2\n",
        3,
        "functions.mail.concurency",
        'did you mean "concurrency"?',
    ),
    "function cron": (R + '[functions.mail]\ncron = "daily"\n', 3, "functions.mail.cron", "five fields"),
    "function time zone": (
        R + '[functions.mail]\ntimezone = "Europe/Pari"\n',
        3,
        "functions.mail.timezone",
        'did you mean "Europe/Paris"?',
    ),
    "function retry": (R + "[functions.mail]\nretry = -2\n", 3, "functions.mail.retry", "max_attempts = 5"),
    "function retry's field": (
        R + "[functions.mail]\nretry = { attempts = 5 }\n",
        3,
        "functions.mail.retry",
        "max_attempts = 5",
    ),
    "retention a number of builds": (R + "[retention]\nbuilds = 0\n", 3, "retention.builds", "from 1 to"),
    "preview without branches": (R + "[preview]\nlimit = 3\n", 2, "preview.branches", '["feature/*"]'),
    "preview with nothing": (R + "[preview]\n", 2, "preview.branches", '["feature/*"]'),
    "preview of no branches": (R + "[preview]\nbranches = []\n", 3, "preview.branches", '["feature/*"]'),
    "preview a value": (R + "preview = true\n", 2, "preview", "[preview]"),
    "preview's branches misspelt": (R + "[preview]\nbranch = ['a']\n", 3, "preview.branch", 'mean "branches"'),
    "preview's variables a value": (R + "[preview]\nbranches = ['a']\nenv = 1\n", 4, "preview.env", "NAME ="),
    "preview's variable": (R + "[preview]\nbranches = ['a']\nenv = { A = 1 }\n", 4, "preview.env.A", 'A = "1"'),
    "preview's pattern a full reference": (
        R + '[preview]\nbranches = ["a", "refs/heads/x/*"]\n',
        3,
        "preview.branches[1]",
        '"x/*"',
    ),
    "preview's pattern that fits nothing": (
        R + '[preview]\nbranches = ["a b*"]\n',
        3,
        "preview.branches[0]",
        '"feature/*"',
    ),
    "preview's limit": (R + "[preview]\nbranches = ['a']\nlimit = 0\n", 4, "preview.limit", "from 1 to"),
    "preview's cron": (R + "[preview]\nbranches = ['a']\ncron = 'no'\n", 4, "preview.cron", "true or false"),
    "preview's memory": (R + "[preview]\nbranches = ['a']\nmemory = 7\n", 4, "preview.memory", '"512MiB"'),
    "preview of a working tree": (
        R + "worktree = true\n[preview]\nbranches = ['a']\n",
        3,
        "preview",
        "remove one of the two",
    ),
    "key that is no whole path": (R + "[git]\nkey = 'id_ed25519'\n", 3, "git.key", '"/run/secrets/id_ed25519"'),
    "git's token a number": (R + "[git]\ntoken = 7\n", 3, "git.token", "file = "),
    "git's token of a strange table": (R + "[git]\ntoken = { path = '/x' }\n", 3, "git.token", "file = "),
    "git's submodules": (R + "[git]\nsubmodules = 'all'\n", 3, "git.submodules", "true or false"),
    "hooks with nothing": (R + "[hooks]\n", 2, "hooks.secret", "secret = {"),
    "secret too easy": (R + "[hooks]\nsecret = 'hunter2'\n", 3, "hooks.secret", "openssl rand -hex 32"),
    "secret of a relative file": (R + "[hooks]\nsecret = { file = 'x' }\n", 3, "hooks.secret", '"/run/secrets/x"'),
    "hooks misspelt": (R + "[hooks]\nsecrets = 'x'\n", 3, "hooks.secrets", 'did you mean "secret"?'),
    "breaking unknown": (R + "[build]\nbreaking = 'holds'\n", 3, "build.breaking", 'did you mean "hold"?'),
    "key twice": (R + 'branch = "a"\nbranch = "b"\n', 3, "", "keep one"),
    "section twice": (R + "[build]\n[run]\n[build]\n", 4, "", "both together"),
    "no quotes": (R + "branch = main\n", 2, "", "between quotes"),
    "quotes left open": (R + 'branch = "main\n', 2, "", "close the quotes"),
    "no equals sign": (R + "branch main\n", 2, "", 'key = "value"'),
    "yaml": (R + "branch: main\n", 2, "", 'key = "value"'),
    "list left open": (R + '[build]\nfunctions = ["a"\n', 3, "", "close the list with ]"),
}


@pytest.mark.parametrize(("text", "line", "key", "cure"), CASES.values(), ids=CASES.keys())
def test_a_broken_file_names_line_key_and_cure(text: str, line: int, key: str, cure: str) -> None:
    parsed = parse(text, "staging", "staging.toml")
    assert parsed.config is None
    assert [(fault.line, fault.key) for fault in parsed.faults] == [(line, key)]
    fault = parsed.faults[0]
    assert cure in fault.cure, str(fault)
    assert fault.reason
    assert parsed.error == f"staging.toml, {fault}"


BYTES = {
    "latin-1": (R.encode() + b'branch = "caf\xe9"\n', 2, "UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf" + R.encode(), 1, "without one (BOM)"),
    "utf-16": (R.encode("utf-16"), 1, "UTF-8"),
    "binary": (b"\x7fELF\x02\x01\x01\x00", 1, 'key = "value"'),
    "enormous": (b"#" * (1024 * 1024 + 1), 1, "1 MiB"),
    "nested without end": (b"a = " + b"[" * 5000, 1, ""),
}


@pytest.mark.parametrize(("data", "line", "cure"), BYTES.values(), ids=BYTES.keys())
def test_what_is_no_text_is_a_fault_of_the_file(data: bytes, line: int, cure: str) -> None:
    parsed = parse_bytes(data, "staging", "staging.toml")
    assert [(fault.line, fault.key) for fault in parsed.faults] == [(line, "")]
    assert cure in parsed.faults[0].cure


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("Bad_Name", "bad-name.toml"),
        ("-x", "x.toml"),
        ("a b", "a-b.toml"),
        ("é", "staging.toml"),
        ("a" * 64, "a" * 63 + ".toml"),
        ("", "staging.toml"),
    ],
)
def test_a_file_name_that_cannot_be_an_environment(name: str, cure: str) -> None:
    parsed = parse(R, name, f"{name}.toml")
    assert parsed.config is None
    assert f"rename the file to {cure}" in parsed.faults[0].cure


def test_all_faults_of_a_file_are_told_at_once_in_the_order_of_their_lines() -> None:
    parsed = parse(
        'repository = "shop"\nbranch = 3\n[run]\nmounts = ["a", "b"]\ncolour = 1\n[env]\nA = 1\nB = 2\n',
        "staging",
        "staging.toml",
    )
    assert [(fault.line, fault.key) for fault in parsed.faults] == [
        (1, "repository"),
        (2, "branch"),
        (4, "run.mounts[0]"),
        (4, "run.mounts[1]"),
        (5, "run.colour"),
        (7, "env.A"),
        (8, "env.B"),
    ]
    assert len(parsed.error.splitlines()) == 7


@pytest.mark.parametrize(
    "text",
    [
        R + 'token = "hunter2-hunter2"\n',
        R + '[env]\nKEY = { value = "hunter2" }\n',
        R + '[env]\nKEY = "hunter2\n',
        R + "[notify]\nslack = { url = 'hunter2' }\n",
        R + "[env]\nKEY = hunter2\n",
        R + "[hooks]\nsecret = 'hunter2'\n",
        R + "[git]\ntoken = { value = 'hunter2' }\n",
        'repository = "https://me:hunter2@example.org:x\n',
        'repository = "ftp://me:hunter2@example.org/x"\n',
    ],
)
def test_a_fault_never_holds_a_secret(text: str) -> None:
    parsed = parse(text, "staging", "staging.toml")
    assert parsed.faults
    assert "hunter2" not in parsed.error
