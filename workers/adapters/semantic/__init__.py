"""Questions in English become one SELECT, through what a YAML file says about the tables."""

from workers.adapters.semantic.layer import SemanticLayer
from workers.adapters.semantic.model import BadModel

__all__ = ["BadModel", "SemanticLayer"]
