from __future__ import annotations

from tests.contract.sparks import spark

__all__ = ["spark"]
