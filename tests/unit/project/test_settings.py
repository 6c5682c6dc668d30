import re
from pathlib import Path

import pytest

from config import files
from config.files import ConfigError
from config.settings import READ_ELSEWHERE, Settings
from tests.unit.project.checkout import ROOT


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder without the developer's own .env."""
    monkeypatch.chdir(tmp_path)


def test_defaults_come_from_the_development_file() -> None:
    settings = Settings.load()
    assert (settings.env, settings.engine, settings.durability) == ("dev", "streaming", "os")


def test_production_survives_a_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_ENV", "prod")
    settings = Settings.load()
    assert (settings.env, settings.durability) == ("prod", "disk")


def test_the_environment_wins_over_env_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TAILRACE_DURABILITY=disk\nTAILRACE_ENGINE=streaming\nCATALOG_NAME=from_env\n")
    monkeypatch.setenv("TAILRACE_ENGINE", "tail")
    settings = Settings.load()
    assert (settings.engine, settings.durability, settings.catalog_name) == ("tail", "disk", "from_env")


def test_the_environment_is_chosen_in_env_too() -> None:
    Path(".env").write_text("TAILRACE_ENV=prod\n")
    assert Settings.load().durability == "disk"


def test_arguments_win_over_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_ENGINE", "streaming")
    assert Settings.load(engine="tail").engine == "tail"


def test_the_requirements_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "DATABRICKS_HOST": "https://example.net/",
        "DATABRICKS_TOKEN": "secret",
        "CATALOG_NAME": "c",
        "SCHEMA_NAME": "s",
        "VECTOR_ENDPOINT": "v",
        "LLM_ENDPOINT": "l",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.databricks_host == "https://example.net"
    assert settings.databricks_token.get_secret_value() == "secret"
    read = (settings.catalog_name, settings.schema_name, settings.vector_endpoint, settings.llm_endpoint)
    assert read == ("c", "s", "v", "l")


def test_the_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "hunter2")
    assert "hunter2" not in repr(Settings.load())


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", "")
    monkeypatch.setenv("TAILRACE_ENGINE", "")
    settings = Settings.load()
    assert (settings.databricks_host, settings.engine) == (None, "streaming")


def test_a_wrong_value_names_its_place_its_name_and_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_ENGINE", "kafka")
    Path(".env").write_text("TAILRACE_DURABILITY=tape\n")
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    lines = str(caught.value).splitlines()
    assert "environment: TAILRACE_ENGINE is 'kafka': Input should be 'streaming' or 'tail'" in lines
    assert ".env: TAILRACE_DURABILITY is 'tape': Input should be 'os' or 'disk'" in lines


def test_a_workspace_without_https_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", "example.net")
    with pytest.raises(ConfigError, match=r"DATABRICKS_HOST.*begins with https://"):
        Settings.load()


def test_a_misspelt_variable_is_not_silently_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_ENGIN", "tail")
    with pytest.raises(
        ConfigError, match=r"environment: unknown variable TAILRACE_ENGIN \(did you mean TAILRACE_ENGINE\?\)"
    ):
        Settings.load()


def test_an_environment_without_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_ENV", "staging")
    with pytest.raises(ConfigError, match=r"there is no config/env\.staging\.yaml"):
        Settings.load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("engin: tail", r"env\.dev\.yaml: unknown setting engin \(did you mean engine\?\); known are .*durability"),
        ("engine: kafka", r"env\.dev\.yaml: engine is 'kafka'"),
        ("databricks_token: abc", "a secret does not belong into a file"),
        ("engine: tail\nengine: streaming", "'engine' is there twice"),
        ("- engine", "expected settings"),
        ("engine: [", r"env\.dev\.yaml is not YAML"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "env.dev.yaml").write_text(content)
    monkeypatch.setenv("TAILRACE_CONFIG", str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        Settings.load()


def test_the_example_names_every_variable_and_can_be_used_as_it_is() -> None:
    example = (ROOT / ".env.example").read_text()
    Path(".env").write_text(example)
    assert Settings.load() == Settings.load(env="dev")
    named = set(re.findall(r"^([A-Z_]+)=", example, re.M))
    fields = Settings.model_fields
    wanted = {name.upper() if fields[name].validation_alias else f"TAILRACE_{name.upper()}" for name in fields}
    assert wanted <= named
    assert named <= wanted | set(READ_ELSEWHERE)


def test_an_override_replaces_a_file_and_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "env.dev.yaml").write_text("engine: tail")
    monkeypatch.setenv("TAILRACE_CONFIG", str(tmp_path))
    assert Settings.load().engine == "tail"
    assert files.where("env.dev.yaml") == str(tmp_path / "env.dev.yaml")
    assert files.where("rbac_roles.yaml") == "config/rbac_roles.yaml"
    assert files.exists("rbac_roles.yaml")


def test_a_missing_file_is_named() -> None:
    assert not files.exists("absent.yaml")
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        files.text("absent.yaml")
