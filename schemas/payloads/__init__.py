"""The payloads of messages: commands are imperative, events past tense; a kind is the name of its class."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from schemas.payloads.base import Payload

if TYPE_CHECKING:
    from schemas.payloads.asking import (
        Answered,
        Ask,
        Code,
        CodeGenerated,
        Failed,
        FindResult,
        GenerateCode,
        KnowledgeRetrieved,
        Refusal,
        Refused,
        Result,
        ResultFound,
        RetrieveKnowledge,
        Source,
    )
    from schemas.payloads.bus import AuditRecorded, InstanceChanged, MessageExpired, MessageRedriven, Receipt
    from schemas.payloads.governing import (
        ApprovalDecided,
        ApprovalEscalated,
        ApprovalGranted,
        ApprovalReminded,
        ApprovalRequested,
        ApprovalVoted,
        BeginRun,
        CancelExecution,
        CodeDryRun,
        CodeRun,
        CountedVote,
        Decide,
        DecisionAnswered,
        Delegate,
        DelegationAnswered,
        DelegationChanged,
        DryRunCode,
        EffectPreview,
        EndDelegation,
        EscalateApproval,
        ExecutionAnswered,
        ExecutionClaimed,
        ExecutionSettled,
        ExpireApprovals,
        Grant,
        GrantRevoked,
        Need,
        RemindApprovers,
        RequestApproval,
        RequestExecution,
        RevokeGrant,
        RunCode,
        Sample,
        SettleExecution,
        Subject,
    )
    from schemas.payloads.knowledge import AddDocument

    KINDS: dict[str, type[Payload]]

#: Every kind of message, and the module here that defines it. A module is loaded when one of its names is first used: to
#: build all these classes takes a fifth of the time a client may take to import, and a client uses few of them.
KIND_MODULES = {
    "Ask": "asking",
    "Answered": "asking",
    "RetrieveKnowledge": "asking",
    "KnowledgeRetrieved": "asking",
    "FindResult": "asking",
    "ResultFound": "asking",
    "GenerateCode": "asking",
    "CodeGenerated": "asking",
    "Failed": "asking",
    "Refused": "asking",
    "RequestExecution": "governing",
    "DryRunCode": "governing",
    "CodeDryRun": "governing",
    "ApprovalRequested": "governing",
    "Decide": "governing",
    "ApprovalDecided": "governing",
    "ApprovalVoted": "governing",
    "ApprovalReminded": "governing",
    "ApprovalEscalated": "governing",
    "ApprovalGranted": "governing",
    "RequestApproval": "governing",
    "DecisionAnswered": "governing",
    "Delegate": "governing",
    "EndDelegation": "governing",
    "DelegationAnswered": "governing",
    "DelegationChanged": "governing",
    "RevokeGrant": "governing",
    "GrantRevoked": "governing",
    "RunCode": "governing",
    "BeginRun": "governing",
    "ExecutionClaimed": "governing",
    "CodeRun": "governing",
    "ExecutionSettled": "governing",
    "CancelExecution": "governing",
    "SettleExecution": "governing",
    "ExecutionAnswered": "governing",
    "ExpireApprovals": "governing",
    "RemindApprovers": "governing",
    "EscalateApproval": "governing",
    "AddDocument": "knowledge",
    "Receipt": "bus",
    "MessageExpired": "bus",
    "MessageRedriven": "bus",
    "AuditRecorded": "bus",
    "InstanceChanged": "bus",
}
#: The same for what they are made of, and what is no message by itself.
_PART_MODULES = {
    "Code": "asking",
    "CountedVote": "governing",
    "EffectPreview": "governing",
    "Grant": "governing",
    "Need": "governing",
    "Refusal": "asking",
    "Result": "asking",
    "Sample": "governing",
    "Source": "asking",
    "Subject": "governing",
}

__all__ = [
    "KINDS",
    "KIND_MODULES",
    "AddDocument",
    "Answered",
    "ApprovalDecided",
    "ApprovalEscalated",
    "ApprovalGranted",
    "ApprovalReminded",
    "ApprovalRequested",
    "ApprovalVoted",
    "Ask",
    "AuditRecorded",
    "BeginRun",
    "CancelExecution",
    "Code",
    "CodeDryRun",
    "CodeGenerated",
    "CodeRun",
    "CountedVote",
    "Decide",
    "DecisionAnswered",
    "Delegate",
    "DelegationAnswered",
    "DelegationChanged",
    "DryRunCode",
    "EffectPreview",
    "EndDelegation",
    "EscalateApproval",
    "ExecutionAnswered",
    "ExecutionClaimed",
    "ExecutionSettled",
    "ExpireApprovals",
    "Failed",
    "FindResult",
    "GenerateCode",
    "Grant",
    "GrantRevoked",
    "InstanceChanged",
    "KnowledgeRetrieved",
    "MessageExpired",
    "MessageRedriven",
    "Need",
    "Payload",
    "Receipt",
    "Refusal",
    "Refused",
    "RemindApprovers",
    "RequestApproval",
    "RequestExecution",
    "Result",
    "ResultFound",
    "RetrieveKnowledge",
    "RevokeGrant",
    "RunCode",
    "Sample",
    "SettleExecution",
    "Source",
    "Subject",
]

if not TYPE_CHECKING:  # a type checker would take a module that has this to have every name there is

    def __getattr__(name: str) -> Any:
        if name == "KINDS":
            return _kinds()
        module = KIND_MODULES.get(name) or _PART_MODULES.get(name)
        if module is None:
            raise AttributeError(f"schemas.payloads has no {name}")
        return getattr(import_module(f"schemas.payloads.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


@cache
def _kinds() -> dict[str, type[Payload]]:
    """Who finds a class by the kind of a message needs all of them."""
    return {name: getattr(import_module(f"schemas.payloads.{module}"), name) for name, module in KIND_MODULES.items()}
