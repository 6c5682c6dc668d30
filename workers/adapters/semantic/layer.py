"""The semantic layer: a question in English in, one SELECT for Spark out, or a refusal that names the words."""

from __future__ import annotations

import re
from pathlib import Path

from workers.adapters.semantic.explain import explain
from workers.adapters.semantic.grammar import Question
from workers.adapters.semantic.lexicon import Lexicon
from workers.adapters.semantic.model import Model, load_model
from workers.adapters.semantic.planner import Planner
from workers.adapters.semantic.render import Renderer
from workers.adapters.semantic.words import LONGEST_QUESTION
from workers.ports import CouldNotMap, GeneratedSql

#: "... and save the result to table sales_top10": where a result goes is not the layer's concern.
_SAVE = re.compile(
    r"(?:\s*,)?\s*\b(?:and|then)\s+(?:then\s+)?(?:save|store|write|persist|put)\b"
    r"(?:\s+(?:it|them|this|that|(?:the\s+)?(?:results?|output)))?"
    r"(?:\s+(?:to|in|into|as)\s+(?:(?:a|the)\s+)?(?:new\s+)?(?:delta\s+)?(?:table\b)?(?:\s*(?:named|called)\b)?(?:\s*[`\"']?[a-z_][\w.]*[`\"']?)?)?"
    r"\s*[.!?]*\s*$",
    re.IGNORECASE,
)


class SemanticLayer:
    """Implements `workers.ports.SqlWriter` over one semantic model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._lexicon = Lexicon(model)
        self._planner = Planner(model)

    @classmethod
    def load(cls, source: str | Path) -> SemanticLayer:
        """Build a layer from the path of a YAML file, or from YAML text. Raises BadModel."""
        return cls(load_model(source))

    def write(self, question: str) -> GeneratedSql:
        """Turn a question into SQL. Raises CouldNotMap; never answers part of a question."""
        if len(question) > LONGEST_QUESTION:
            raise CouldNotMap([f"{question[:40]}..."], f"A question may have at most {LONGEST_QUESTION} characters.")
        terms = self._lexicon.terms_of(_SAVE.sub("", question))
        plan = self._planner.plan(Question(terms, self.model).read())
        rendered = Renderer(self.model, plan).render()
        sql = rendered.tree.sql(dialect="spark", pretty=True)
        return GeneratedSql(sql, explain(self.model, plan, rendered.path), rendered.tables, rendered.columns)

    def canonical(self, question: str) -> str:
        """A text that is equal for questions of the same meaning. Raises CouldNotMap."""
        return " ".join(self.write(question).sql.split())
