"""Settings: the environment first, then `.env`, then `config/env.<TAILRACE_ENV>.yaml`, then the defaults here."""

from __future__ import annotations

import difflib
import os
from typing import Any, Literal

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config import files
from config.files import ConfigError

#: Variables with our prefix that other parts read by themselves.
READ_ELSEWHERE = {
    "TAILRACE_CONFIG": "a folder whose files replace those of the package, by name",
    "TAILRACE_DEBUG": "1 shows where an error of the command line happened",
    "TAILRACE_IVY_SETTINGS": "Ivy settings of a mirror, used when set-up fetches Delta's JARs",
    "TAILRACE_JARS": "the folder of Delta's JARs",
}
#: Settings that are never shown, and their variables.
SECRETS = {"databricks_token": "DATABRICKS_TOKEN", "databricks_client_secret": "DATABRICKS_CLIENT_SECRET"}


def _env(name: str) -> Any:
    return AliasChoices(name.lower(), name)


class Settings(BaseSettings):
    """One flat list. `TAILRACE_*` for what is ours, the requirements' names for what is Databricks'."""

    model_config = SettingsConfigDict(
        env_prefix="TAILRACE_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    env: str = "dev"
    home: str = ".tailrace"
    #: The URL of the tables when they are not in the home: az://container/prefix, s3://bucket/prefix or uc://catalog.schema.
    tables: str | None = None
    engine: Literal["streaming", "tail"] = "streaming"
    durability: Literal["os", "disk"] = "os"
    #: Milliseconds between looks for new rows in an object store: while it is busy, and while it is not.
    poll_ms: float = Field(default=50.0, gt=0, le=60_000)
    idle_poll_ms: float = Field(default=500.0, gt=0, le=60_000)
    #: Milliseconds a commit waits for company.
    linger_ms: float = Field(default=0.0, ge=0, le=1000)
    #: Seconds until the conversations of an instance that does not answer any more are taken over.
    lease_s: float = Field(default=10.0, ge=0.1, le=3600)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    #: Address of an OpenTelemetry collector (OTLP over HTTP, such as http://localhost:4318); no spans without one.
    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://")
    #: Open messages of one agent from which on its producers are asked to slow down.
    flow_high: int = Field(default=5_000, ge=1)
    #: Seconds people have to decide, and a grant is good for, at most: the rules of the policy say how long, up to these.
    approval_ttl_s: float = Field(default=604_800.0, gt=0)
    grant_ttl_s: float = Field(default=3600.0, gt=0)

    #: Where SQL runs: Spark on this machine, or a Databricks SQL warehouse, and the schema there for dry runs of effects.
    sql_engine: Literal["local", "warehouse"] = "local"
    warehouse_id: str | None = None
    warehouse_scratch: str | None = None
    #: Schemas of the lakehouse in which local SQL may change tables; the first is where results go.
    writable_schemas: tuple[str, ...] = Field(default=("results",), min_length=1)
    #: Mebibytes of tables up to which a dry run tries a change on a snapshot of its target.
    tried_mib: int = Field(default=256, ge=0)
    #: Seconds one statement may take in its engine; runs under way at once in the execution process, and of one person.
    run_timeout_s: float = Field(default=300.0, gt=0, le=36_000)
    runs_at_once: int = Field(default=4, ge=1, le=16)
    runs_per_principal: int = Field(default=2, ge=1, le=16)
    #: Rows and bytes of a result that are sent; of a larger one the rest is kept in a file of the lakehouse.
    result_rows: int = Field(default=1000, ge=0, le=100_000)
    result_bytes: int = Field(default=256 * 1024, ge=1024, le=512 * 1024)

    #: Seconds between two passes of upkeep when little happens; when much happens it does not wait.
    upkeep_interval_s: float = Field(default=30.0, gt=0)
    #: Seconds a data file stays after it left a table, for readers that opened the table before.
    upkeep_keep_files_s: float = Field(default=900.0, ge=0)
    #: Days after which messages, events and audit facts leave their tables, for the archive. Both are needed, or all stays.
    retain_days: int | None = Field(default=None, ge=1)
    archive: str | None = None
    #: Where anchors of the log are kept elsewhere, comma-separated: files, http(s):// or s3:// and az:// URLs.
    anchor_to: str | None = None
    #: Seconds of silence after which upkeep does not wait for a consumer of the log any more.
    consumer_lost_after_s: float = Field(default=600.0, gt=0)

    #: Where upkeep serves metrics for Prometheus while it watches; nowhere without a port.
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    metrics_address: str = "127.0.0.1"

    databricks_host: str | None = Field(default=None, validation_alias=_env("DATABRICKS_HOST"))
    databricks_token: SecretStr | None = Field(default=None, validation_alias=_env("DATABRICKS_TOKEN"))
    #: Where `send` goes without Spark when the tables are in Unity Catalog, and who it is there.
    zerobus_endpoint: str | None = Field(default=None, pattern=r"^https://")
    databricks_client_id: str | None = Field(default=None, validation_alias=_env("DATABRICKS_CLIENT_ID"))
    databricks_client_secret: SecretStr | None = Field(default=None, validation_alias=_env("DATABRICKS_CLIENT_SECRET"))
    catalog_name: str | None = Field(default=None, validation_alias=_env("CATALOG_NAME"))
    schema_name: str | None = Field(default=None, validation_alias=_env("SCHEMA_NAME"))
    vector_endpoint: str | None = Field(default=None, validation_alias=_env("VECTOR_ENDPOINT"))
    llm_endpoint: str | None = Field(default=None, validation_alias=_env("LLM_ENDPOINT"))

    @property
    def anchor_places(self) -> list[str]:
        return [place.strip() for place in (self.anchor_to or "").split(",") if place.strip()]

    @field_validator("tables")
    @classmethod
    def _place(cls, value: str | None) -> str | None:
        if value is not None and "://" not in value:
            raise ValueError(
                "expected the URL of an object store, az://container/prefix or s3://bucket/prefix, or uc://catalog.schema"
            )
        return value.rstrip("/") if value else None

    @field_validator("databricks_host")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("https://"):
            raise ValueError("a workspace's address begins with https://")
        return value.rstrip("/") if value else None

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Raises ConfigError with a line for each wrong value: where it stands, its name, and what is allowed."""
        wrong = _unknown_variables()
        try:
            settings = cls(**overrides)
        except ValidationError as error:
            wrong += [_explain(problem, overrides) for problem in error.errors()]
        if wrong:
            raise ConfigError("\n".join(wrong))
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, _YamlSource(settings_cls)


class _YamlSource(PydanticBaseSettingsSource):
    """`config/env.<TAILRACE_ENV>.yaml`; an unknown key is an error: a typo would change nothing, silently."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        name = _environment_file()
        if not files.exists(name):
            raise ConfigError(f"TAILRACE_ENV names an environment without a file: there is no config/{name}")
        document = files.yaml(name) or {}
        if not isinstance(document, dict):
            raise ConfigError(f"{files.where(name)}: expected settings, one `name: value` a line")
        known = sorted(set(self.settings_cls.model_fields) - SECRETS.keys())
        for key in document:
            if key in SECRETS:
                raise ConfigError(f"{files.where(name)}: a secret does not belong into a file; set {SECRETS[key]}")
            if key not in known:
                raise ConfigError(
                    f"{files.where(name)}: unknown setting {key}{_guess(key, known)}; known are {', '.join(known)}"
                )
        return {key: value for key, value in document.items() if value is not None}


def _variable(name: str) -> str | None:
    return os.environ.get(name) or dotenv_values(".env").get(name) or None


def _variable_of(field: str) -> str:
    """The name of the environment variable behind a setting."""
    return field.upper() if Settings.model_fields[field].validation_alias else f"TAILRACE_{field.upper()}"


def _environment_file() -> str:
    return f"env.{_variable('TAILRACE_ENV') or 'dev'}.yaml"


def _unknown_variables() -> list[str]:
    """Variables with our prefix that nobody reads: a slip of the pen would otherwise change nothing, silently."""
    known = sorted({_variable_of(field) for field in Settings.model_fields} | set(READ_ELSEWHERE))
    found = dict.fromkeys(dotenv_values(".env"), ".env") | dict.fromkeys(os.environ, "environment")
    return [
        f"{place}: unknown variable {name}{_guess(name, known)}; known are {', '.join(known)}"
        for name, place in found.items()
        if name.startswith("TAILRACE_") and name not in known
    ]


def _explain(problem: Any, overrides: dict[str, Any]) -> str:
    """Where one wrong value stands, its name, what it is and what is allowed."""
    field = str(problem["loc"][0]).lower().removeprefix("tailrace_")
    name = _variable_of(field) if field in Settings.model_fields else field
    if field in overrides:
        place = f"argument {field}"
    elif os.environ.get(name):
        place = f"environment: {name}"
    elif dotenv_values(".env").get(name):
        place = f".env: {name}"
    else:
        place = f"{files.where(_environment_file())}: {field}"
    shown = "" if field in SECRETS else f" is {problem['input']!r}"
    return f"{place}{shown}: {problem['msg']}"


def _guess(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
