"""CodeAgent: question to SQL through its port, then its own checks of syntax and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.payloads import Code, CodeGenerated, Failed, GenerateCode, Refused
from workers.code.checks import CheckFailed, check_select
from workers.ports import CouldNotMap, Roles, SqlWriter
from workers.runtime.base import Context, Outgoing, Received, Worker, audit, reply

PERMISSION = "code.generate"


class CodeAgent(Worker):
    """Answers GenerateCode with CodeGenerated, Refused, or Failed with the words it could not map."""

    handles = (GenerateCode,)

    def __init__(self, writer: SqlWriter, tables: Mapping[str, Sequence[str]], roles: Roles) -> None:
        """`tables`: columns by `schema.table`, what code may refer to."""
        self._writer = writer
        self._tables = tables
        self._roles = roles

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, GenerateCode)
        question = message.payload.question
        if not self._roles.allows(context.principal or "", PERMISSION):
            # Whoever can send to the orchestrator can send here as well: the role counts at both doors.
            reason = f"{context.principal or 'nobody'}'s role does not allow generating code"
            refusal = audit("code.refused", "refused", rule=f"rbac.{PERMISSION}", reason=reason)
            return [refusal, reply(message, Refused(rule=f"rbac.{PERMISSION}", reason=reason))]
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
