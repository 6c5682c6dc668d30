"""CodeAgent: question to SQL through its port, then its own checks of syntax and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.payloads import Code, CodeGenerated, Failed, GenerateCode
from workers.code.checks import CheckFailed, check_select
from workers.ports import CouldNotMap, SqlWriter
from workers.runtime.base import Context, Outgoing, Received, Worker, audit, reply


class CodeAgent(Worker):
    """Answers GenerateCode with CodeGenerated, or Failed with the words it could not map."""

    handles = (GenerateCode,)

    def __init__(self, writer: SqlWriter, tables: Mapping[str, Sequence[str]]) -> None:
        """`tables`: columns by `schema.table`, what code may refer to."""
        self._writer = writer
        self._tables = tables

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, GenerateCode)
        question = message.payload.question
        try:
            generated = self._writer.write(question)
            check_select(generated.sql, self._tables)
        except CouldNotMap as error:
            return [
                audit(
                    "code.not_mapped", "failed", rule="code.could_not_map", reason=str(error), words=list(error.words)
                ),
                reply(message, Failed(rule="code.could_not_map", reason=str(error))),
            ]
        except CheckFailed as error:
            return [
                audit("code.check_failed", "failed", rule=error.rule, reason=str(error)),
                reply(message, Failed(rule=error.rule, reason=str(error))),
            ]
        return [
            audit("code.generated", "done", tables=list(generated.tables)),
            reply(
                message,
                CodeGenerated(
                    question=question,
                    code=Code(language="sql", text=generated.sql),
                    explanation=generated.explanation,
                    tables=list(generated.tables),
                    columns=list(generated.columns),
                ),
            ),
        ]
