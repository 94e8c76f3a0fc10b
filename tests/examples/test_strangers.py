"""Projects nobody here wrote: source distributions as they are published, with a background function dropped in."""

from __future__ import annotations

import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uv

from tests.support import Repository, Server, clean_environ

pytestmark = pytest.mark.slow

DOWNLOAD_SECONDS = 180.0


@dataclass(frozen=True)
class Stranger:
    distribution: str
    backend: str
    """What its pyproject.toml has to name, so that the three stay three."""
    jobs: str
    """A module with the function ``work``, which returns what it made and where the package came from."""
    expected: Any


STRANGERS = {
    "tomlkit": Stranger(
        "tomlkit==0.13.3",
        "poetry.core",
        """
import tomlkit
from deferlite import defer

@defer
def work(text):
    document = tomlkit.parse(text)
    document["seen"] = True
    return [tomlkit.dumps(document), tomlkit.__file__]
""",
        'name = "Ada" # kept\nseen = true\n',
    ),
    "flask": Stranger(
        "flask==3.1.2",
        "flit_core",
        """
import flask
from deferlite import defer

app = flask.Flask("shop")

@defer
def work(text):
    with app.app_context():
        return [flask.render_template_string("{{ text|upper }}", text=text), flask.__file__]
""",
        "NAME = &#34;ADA&#34; # KEPT\n",
    ),
    "attrs": Stranger(
        "attrs==25.4.0",
        "hatchling",
        """
import attr
import attrs
from deferlite import defer

@attrs.frozen
class Line:
    text: str = attrs.field(validator=attrs.validators.instance_of(str))

@defer
def work(text):
    return [attrs.asdict(Line(text)), attr.__file__]
""",
        {"text": 'name = "Ada" # kept\n'},
    ),
    "markupsafe": Stranger(
        "markupsafe==3.0.3",
        "setuptools",
        """
import markupsafe
from markupsafe import _speedups
from deferlite import defer

@defer
def work(text):
    return [[str(markupsafe.escape(text)), _speedups.__file__.endswith(".so")], markupsafe.__file__]
""",
        ["name = &#34;Ada&#34; # kept\n", True],
    ),
}


def unpack(stranger: Stranger, folder: Path) -> Path:
    """Fetch the source distribution as pip does; returns its tree."""
    argv = [uv.find_uv_bin(), "tool", "run", "--quiet", "pip", "download", "--quiet", "--no-deps"]
    wanted = ["--no-binary", stranger.distribution.partition("==")[0], stranger.distribution]
    done = subprocess.run(
        [*argv, "--dest", str(folder), *wanted],
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=DOWNLOAD_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (tree,) = (path for path in folder.iterdir() if path.is_dir())
    return tree


@pytest.fixture(scope="module")
def strangers_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Server(tmp_path_factory.mktemp("strangers") / "home", "--log-level", "warning") as server:
        yield server


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.needs("cc")) if name == "markupsafe" else name for name in STRANGERS]
)
def test_a_published_project_builds_and_runs_what_is_dropped_in(
    strangers_server: Server, name: str, tmp_path: Path
) -> None:
    server, stranger = strangers_server, STRANGERS[name]
    tree = unpack(stranger, tmp_path)
    assert stranger.backend in (tree / "pyproject.toml").read_text()
    repository = Repository(tree, {"background_jobs.py": stranger.jobs})
    server.add(name, f'repository = "{repository.path}"\n')
    build = server.until_built(name)
    assert (build["state"], build["error"]) == ("succeed", None)

    state, (made, file) = server.client(name).call("work", 'name = "Ada" # kept\n')

    assert (state, made) == ("succeed", stranger.expected)
    assert Path(file).is_relative_to(server.home / "builds" / name / build["id"]), "imported from elsewhere"
