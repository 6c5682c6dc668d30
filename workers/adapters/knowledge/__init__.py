"""Knowledge and published results, kept in Delta tables and found without a service."""

from workers.adapters.knowledge.documents import BadDocument
from workers.adapters.knowledge.index import BM25Index
from workers.adapters.knowledge.results import DeltaResultCatalog
from workers.adapters.knowledge.store import Ingested, KnowledgeStore

__all__ = ["BM25Index", "BadDocument", "DeltaResultCatalog", "Ingested", "KnowledgeStore"]
