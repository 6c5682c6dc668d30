"""Documents: what is added to the knowledge, once governance has granted that very text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from schemas.envelope import USER, Message
from schemas.payloads import (
    AddDocument,
    Answered,
    ApprovalGranted,
    Decide,
    ExecutionClaimed,
    ExecutionSettled,
    Failed,
    Grant,
    GrantRevoked,
    Refused,
    RequestApproval,
)
from workers.ports import KnowledgeLibrary, PortError
from workers.runtime.base import Context, Outgoing, Received, audit, event, reply, request
from workers.runtime.clock import micros

GOVERNANCE = "GovernanceAgent"


class GrantRefused(Exception):
    """The grant does not permit this; `rule` says which check it failed."""

    def __init__(self, rule: str, reason: str) -> None:
        self.rule, self.reason = rule, reason
        super().__init__(f"{rule}: {reason}")


class Librarian:
    """AddDocument -> RequestApproval -> ApprovalGranted -> the document is there, and whoever asked is told."""

    def __init__(self, library: KnowledgeLibrary) -> None:
        self._library = library

    def asked(self, asked: AddDocument, message: Received, context: Context) -> list[Outgoing]:
        if message.sender != USER + (context.principal or ""):
            return _refused(
                message.message, "principal.other", "a document is added by a person, in a conversation of theirs"
            )
        try:
            digest = self._library.check(asked.name, asked.text)
        except PortError as error:
            failed = Failed(rule="document.unreadable", reason=str(error))
            return [audit("document.asked", "failed", rule=failed.rule, reason=failed.reason), reply(message, failed)]
        # Whoever approves reads all of it: what is not read cannot be approved.
        wanted = RequestApproval(subject="document", name=asked.name, digest=digest, summary=asked.text)
        return [audit("document.asked", "allowed", document=asked.name, digest=digest), request(GOVERNANCE, wanted)]

    async def granted(self, granted: ApprovalGranted, message: Received, context: Context) -> list[Outgoing]:
        grant = granted.grant
        origin = _origin(grant, context.conversation)
        if origin is None or message.sender != GOVERNANCE:
            return [audit("document.ignored", "refused", rule="document.unasked", sender=message.sender)]
        asked = AddDocument.model_validate_json(origin.content)
        try:
            digest = self._library.check(asked.name, asked.text)
            _check(grant, asked.name, digest, context)
            await _claim(grant, message, context)
            added = await asyncio.to_thread(self._library.add, asked.name, asked.text)
        except GrantRefused as error:
            return _refused(origin, error.rule, error.reason)
        except PortError as error:
            failed = Failed(rule="document.not_added", reason=str(error))
            fact = audit("document.added", "failed", rule=failed.rule, reason=failed.reason)
            return [_settled(grant, "failed", str(error)), fact, _answer(origin, failed)]
        by = ", ".join(grant.approvers) or f"rule {grant.rule}"
        words = "is part of the knowledge now" if added else "was part of the knowledge already, word for word"
        answer = Answered(status="answered", answer=f"{asked.name} {words}; approved by {by} (grant {grant.grant_id}).")
        fact = audit(
            "document.added", "done", rule=grant.rule, document=asked.name, digest=digest, grant=grant.grant_id
        )
        return [_settled(grant, "done", words), fact, _answer(origin, answer)]

    def not_granted(self, outcome: Failed | Refused, message: Received, context: Context) -> list[Outgoing]:
        by_id = {m.message_id: m for m in context.conversation}
        wanted = by_id.get(message.message.causation_id or "")
        origin = by_id.get(wanted.causation_id or "") if wanted is not None else None
        if message.sender != GOVERNANCE or origin is None or origin.kind != AddDocument.kind():
            return [audit("document.ignored", "refused", rule="document.unasked", sender=message.sender)]
        return [
            audit("document.added", "refused", rule=outcome.rule, reason=outcome.reason),
            _answer(origin, outcome),
        ]


def _origin(grant: Grant, conversation: Sequence[Message]) -> Message | None:
    for message in conversation:
        if (
            message.kind == AddDocument.kind()
            and message.from_agent == USER + grant.requester
            and AddDocument.model_validate_json(message.content).name == grant.target
        ):
            return message
    return None


def _check(grant: Grant, name: str, digest: str, context: Context) -> None:
    """Whether it permits this very text, now; and whether those who approved have signed that."""
    if (grant.subject, grant.target, grant.dry_run_digest) != ("document", name, digest):
        raise GrantRefused("grant.document", "the grant is for another document or another text of it")
    if grant.requester != context.principal or grant.requester in grant.approvers:
        raise GrantRefused("grant.four_eyes", "the grant is for another person, or by the one who asked")
    if micros(context.now) > grant.expires_at:
        raise GrantRefused("grant.expired", "the grant has expired; ask again")
    if grant.approval_id is None:
        return  # a rule of the policy allows it by itself
    signed = set()
    for message in context.conversation:
        if message.kind == Decide.kind() and message.from_agent.startswith(USER):
            said = Decide.model_validate_json(message.content)
            if (said.approval_id, said.decision, said.digest) == (grant.approval_id, "approve", digest):
                signed.add(message.from_agent.removeprefix(USER))
    if not grant.approvers or not signed.issuperset(grant.approvers):
        raise GrantRefused("grant.approval", "not all who are named as approvers have signed an approval of this")


async def _claim(grant: Grant, message: Received, context: Context) -> None:
    """Once. Adding is idempotent, so our own claim of before a crash is good."""
    known = context.claims.get(grant.grant_id)
    if known is not None and known.kind == GrantRevoked.kind():
        raise GrantRefused("grant.revoked", "the grant was taken back")
    if known is not None and known.causation_id == message.message.message_id:
        return
    claim = ExecutionClaimed.model_validate(_said(grant) | {"instance": context.instance})
    if known is not None or not await context.commit([event(claim)]):
        raise GrantRefused("grant.used", "the grant was used or taken back already")


def _settled(grant: Grant, step: str, reason: str) -> Outgoing:
    """The outcome of our claim."""
    said = ExecutionSettled.model_validate(_said(grant) | {"step": step, "reason": reason})
    return event(said)


def _said(grant: Grant) -> dict[str, str | None]:
    return {
        "grant_id": grant.grant_id,
        "requester": grant.requester,
        "question": f"add the document {grant.target}",
        "code": "",
        "target": grant.target,
        "approved_by": grant.approved_by,
    }


def _answer(origin: Message, payload: Answered | Failed | Refused) -> Outgoing:
    """To whoever asked, whatever message is handled."""
    return Outgoing(origin.from_agent, payload, "response", causation_id=origin.message_id)


def _refused(origin: Message, rule: str, reason: str) -> list[Outgoing]:
    refused = Refused(rule=rule, reason=reason)
    return [audit("document.added", "refused", rule=rule, reason=reason), _answer(origin, refused)]
