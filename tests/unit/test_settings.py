"""Flag beats variable beats file beats default, and every fault names its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deferlite.settings import SETTINGS, Settings, SettingsError

OTHER_VALUES: dict[str, tuple[str, Any]] = {
    "environments": ("/etc/deferlite/environments", Path("/etc/deferlite/environments")),
    "address": ("0.0.0.0", "0.0.0.0"),
    "port": ("4000", 4000),
    "hosts": ("jobs.example.com, jobs", ("jobs.example.com", "jobs")),
    "endpoint": ("https://jobs.example.com", "https://jobs.example.com"),
    "concurrency": ("7", 7),
    "builds": ("3", 3),
    "drain": ("1m30s", 90.0),
    "sandbox": ("required", "required"),
    "log_level": ("debug", "debug"),
}


def load(home: Path, environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    return Settings.load({"home": str(home), **flags}, environ or {})


def test_the_table_makes_the_settings() -> None:
    assert tuple(row.name for row in SETTINGS) == Settings.__struct_fields__
    assert set(OTHER_VALUES) == set(Settings.__struct_fields__) - {"home"}


def test_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert (settings.address, settings.port, settings.drain) == ("127.0.0.1", 3337, 30.0)
    assert settings.environments == tmp_path / "environments"
    assert settings.database == tmp_path / "deferlite.db"


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_flag_beats_variable_beats_file(tmp_path: Path, name: str) -> None:
    text, value = OTHER_VALUES[name]
    default = getattr(load(tmp_path), name)
    assert value != default
    assert getattr(load(tmp_path, {f"DEFERLITE_{name.upper()}": text}), name) == value
    assert getattr(load(tmp_path, **{name: text}), name) == value
    (tmp_path / "deferlite.toml").write_text(f'{name} = "{text}"\n')
    assert getattr(load(tmp_path), name) == value
    if default is not None and isinstance(default, str | int | float):
        assert getattr(load(tmp_path, {f"DEFERLITE_{name.upper()}": str(default)}), name) == default
        assert getattr(load(tmp_path, {f"DEFERLITE_{name.upper()}": text}, **{name: str(default)}), name) == default


@pytest.mark.parametrize(
    ("file", "environ", "flags", "words"),
    [
        ("", {"DEFERLITE_PORT": "many"}, {}, ("DEFERLITE_PORT", "0 to 65535", "'many'")),
        ("", {}, {"port": 70000}, ("--port", "0 to 65535")),
        ("", {}, {"drain": "soon"}, ("--drain", "not a duration")),
        ("sandbox = 'maybe'", {}, {}, ("deferlite.toml: sandbox", "auto, required, off")),
        ("prot = 3337", {}, {}, ("deferlite.toml", "prot is not a setting", "port")),
        ("port = ", {}, {}, ("deferlite.toml", "Invalid value")),
        ("hosts = [1]", {}, {}, ("deferlite.toml: hosts", "a list of texts")),
    ],
)
def test_faults_name_their_place_and_cure(
    tmp_path: Path, file: str, environ: dict[str, str], flags: dict[str, Any], words: tuple[str, ...]
) -> None:
    (tmp_path / "deferlite.toml").write_text(file)
    with pytest.raises(SettingsError) as raised:
        load(tmp_path, environ, **flags)
    assert all(word in str(raised.value) for word in words), raised.value
