"""What every payload is: frozen, and free of fields it does not have."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Payload(BaseModel):
    """Root of all payloads. Frozen; unknown fields are errors, so that a typo is not silently dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def kind(cls) -> str:
        return cls.__name__
