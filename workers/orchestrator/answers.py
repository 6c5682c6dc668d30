"""What a person is told at the end of a plan, put together from what the agents found."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.payloads import Answered, CodeGenerated, CodeRun, KnowledgeRetrieved, Payload, ResultFound

#: Who approved where nobody had to be asked.
POLICY = "policy"


def answer_for(plan: str, done: Mapping[str, Payload]) -> Answered:
    """`done` holds the outcome of every step of the plan, by kind."""
    match done:
        case {"CodeRun": CodeRun() as run}:
            generated = done.get("CodeGenerated")
            explanation = generated.explanation if isinstance(generated, CodeGenerated) else ""
            where = f" and saved to {run.result.table}" if run.result.table else ""
            return Answered(
                status="answered",
                answer=f"Run{where}: {_rows(run)}, {_approval(run)} (grant {run.grant_id}). {explanation}",
                code=generated.code if isinstance(generated, CodeGenerated) else None,
                result=run.result,
            )
        case {"CodeGenerated": CodeGenerated() as generated}:
            return Answered(
                status="answered",
                answer=f"{generated.explanation} The SQL was checked and not run.",
                code=generated.code,
            )
        case {"ResultFound": ResultFound() as found}:
            return Answered(
                status="answered",
                answer=(
                    f"From the governed result {found.result.table} (version {found.result.table_version}), run "
                    f"{found.published_at}, approved by {found.approved_by}, for the question: {found.question}"
                ),
                result=found.result,
            )
        case {"KnowledgeRetrieved": KnowledgeRetrieved() as knowledge}:
            return Answered(status="answered", answer=knowledge.answer, sources=knowledge.sources)
    raise ValueError(f"plan {plan} ended without an outcome: {sorted(done)}")


def _rows(run: CodeRun) -> str:
    return f"its rows were not seen, but {run.proof}" if run.row_count is None else f"{run.row_count} rows"


def _approval(run: CodeRun) -> str:
    return "allowed by the policy itself" if run.approved_by == POLICY else f"approved by {run.approved_by}"
