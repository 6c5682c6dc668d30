"""The redaction policy of this installation, from `redaction.yaml`."""

from __future__ import annotations

from pydantic import ValidationError

from bus.redaction import Redactor
from config import files
from config.files import ConfigError
from schemas.redaction import RedactionPolicy

FILE = "redaction.yaml"


def load_redactor() -> Redactor:
    """Raises ConfigError naming the file and the entry."""
    try:
        return Redactor.of(RedactionPolicy.model_validate(files.yaml(FILE)))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"{files.where(FILE)}: {wrong}") from error
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{files.where(FILE)}: {error}") from error
