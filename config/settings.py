"""Settings: the environment first, then `.env`, then `config/env.<TAILRACE_ENV>.yaml`, then the defaults here."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config import files
from config.files import ConfigError


def _env(name: str) -> Any:
    return AliasChoices(name.lower(), name)


class Settings(BaseSettings):
    """One flat list. `TAILRACE_*` for what is ours, the requirements' names for what is Databricks'."""

    model_config = SettingsConfigDict(env_prefix="TAILRACE_", env_file=".env", extra="ignore", frozen=True)

    env: str = "dev"
    home: str = ".tailrace"
    engine: Literal["streaming", "tail"] = "streaming"
    durability: Literal["os", "disk"] = "os"
    #: Milliseconds a commit waits for company.
    linger_ms: float = Field(default=0.0, ge=0, le=1000)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    #: Seconds a person has to decide, and a grant is good for.
    approval_ttl_s: float = Field(default=3600.0, gt=0)
    grant_ttl_s: float = Field(default=900.0, gt=0)

    databricks_host: str | None = Field(default=None, validation_alias=_env("DATABRICKS_HOST"))
    databricks_token: SecretStr | None = Field(default=None, validation_alias=_env("DATABRICKS_TOKEN"))
    catalog_name: str | None = Field(default=None, validation_alias=_env("CATALOG_NAME"))
    schema_name: str | None = Field(default=None, validation_alias=_env("SCHEMA_NAME"))
    vector_endpoint: str | None = Field(default=None, validation_alias=_env("VECTOR_ENDPOINT"))
    llm_endpoint: str | None = Field(default=None, validation_alias=_env("LLM_ENDPOINT"))

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Raises ConfigError naming each wrong value, and where it may come from."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
            env = os.environ.get("TAILRACE_ENV", "dev")
            raise ConfigError(f"settings are wrong: {wrong}. Look at the environment, .env and config/env.{env}.yaml") from error

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
    """`config/env.<TAILRACE_ENV>.yaml`; an unknown key in it is an error, because a typo would change nothing silently."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        name = f"env.{os.environ.get('TAILRACE_ENV', 'dev')}.yaml"
        document = files.yaml(name) or {}
        unknown = set(document) - set(self.settings_cls.model_fields)
        if unknown:
            known = ", ".join(sorted(self.settings_cls.model_fields))
            raise ConfigError(f"{name}: unknown settings {', '.join(sorted(unknown))}; known are {known}")
        return {key: value for key, value in document.items() if value is not None}
