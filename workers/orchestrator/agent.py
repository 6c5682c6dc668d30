"""OrchestratorAgent: its state is a fold of the conversation, so whoever takes over goes on where the log says it was."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.envelope import USER, Message
from schemas.payloads import (
    KINDS,
    Answered,
    Ask,
    CodeGenerated,
    CodeRun,
    Failed,
    FindResult,
    GenerateCode,
    KnowledgeRetrieved,
    Payload,
    Refusal,
    Refused,
    RequestExecution,
    ResultFound,
    RetrieveKnowledge,
)
from workers.orchestrator.answers import answer_for
from workers.orchestrator.plans import Plan, Plans, Step
from workers.ports import Intent, IntentDetector, Roles, UnknownUser
from workers.runtime.base import Context, Outgoing, Received, Worker, audit, reply, request


class OrchestratorAgent(Worker):
    """Receives Ask, delegates by plan, answers with Answered."""

    handles = (Ask, KnowledgeRetrieved, ResultFound, CodeGenerated, CodeRun, Failed, Refused)

    def __init__(self, plans: Plans, intents: IntentDetector, roles: Roles) -> None:
        self._plans = plans
        self._intents = intents
        self._roles = roles

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        match message.payload:
            case Ask() as ask if message.sender == USER + (context.principal or ""):
                return self._begin(ask, context)
            case Ask():
                return self._not_yours(message, context)
            case _ if message.sender.startswith(USER):
                return [audit("answer.ignored", "refused", rule="answer.not_an_agent", sender=message.sender)]
            case Failed(rule=rule, reason=reason):
                return self._end(context, "failed", reason, Refusal(rule=rule, reason=reason))
            case Refused(rule=rule, reason=reason):
                return self._end(context, "refused", reason, Refusal(rule=rule, reason=reason))
            case _:
                return self._continue(context)

    # --- the course of a conversation ----------------------------------------------------------------------------

    def _begin(self, ask: Ask, context: Context) -> list[Outgoing]:
        user = context.principal or ""
        question = ask.question.strip()
        if not question:
            return self._refuse(context, "question.empty", "The question is empty. Ask something, in words.")
        if len(question) > self._plans.max_question_length:
            reason = (
                f"The question has {len(question):,} characters; the limit is {self._plans.max_question_length:,}. "
                "Ask it in a few sentences."
            )
            return self._refuse(context, "question.too_long", reason)
        try:
            role = self._roles.role_of(user)
        except UnknownUser as error:
            return self._refuse(context, "rbac.unknown_user", str(error))
        plan_name, intent = self._choose(question, user)
        plan = self._plans.plans[plan_name]
        if not self._roles.allows(user, plan.permission):
            goal = plan.goal[0].lower() + plan.goal[1:].rstrip(".")
            reason = f"{user} has the role {role}, which does not allow {plan.permission} ({goal})."
            return self._refuse(context, f"rbac.{plan.permission}", reason)
        return [
            audit("plan.chosen", "allowed", rule=f"rbac.{plan.permission}", plan=plan_name, user=user, role=role),
            self._ask_agent(plan.steps[0], intent, {}, role),
        ]

    def _continue(self, context: Context) -> list[Outgoing]:
        if any(m.kind == Answered.kind() for m in context.conversation):
            return []  # the person has an answer; a late one changes nothing
        ask = _root_question(context.conversation)
        user = context.principal or ""
        plan_name, intent = self._choose(ask, user)
        plan = self._plans.plans[plan_name]
        done = _latest(context.conversation, plan)
        for step in plan.steps:
            if step.done not in done:
                return [self._ask_agent(step, intent, done, self._roles.role_of(user))]
        return self._finish(context, answer_for(plan_name, done))

    def _choose(self, question: str, user: str) -> tuple[str, Intent]:
        """The plan for a question, by who asks. Deterministic, so that a fold finds the same plan again."""
        intent = self._intents.detect(question)
        plan = self._plans.plans[intent.plan]
        if plan.instead is not None and not self._roles.allows(user, plan.permission):
            return plan.instead, intent
        return intent.plan, intent

    def _ask_agent(self, step: Step, intent: Intent, done: dict[str, Payload], role: str) -> Outgoing:
        payload: Payload
        match step.request:
            case "RetrieveKnowledge":
                payload = RetrieveKnowledge(question=intent.subject, role=role)
            case "FindResult":
                payload = FindResult(question=intent.subject, role=role)
            case "GenerateCode":
                payload = GenerateCode(question=intent.subject)
            case "RequestExecution":
                generated = done["CodeGenerated"]
                assert isinstance(generated, CodeGenerated)
                payload = RequestExecution(question=intent.subject, code=generated.code, target=intent.target)
            case unknown:
                raise ValueError(f"mas_config.yaml asks for {unknown}, which the orchestrator cannot send")
        return request(step.agent, payload)

    def _not_yours(self, message: Received, context: Context) -> list[Outgoing]:
        """Whoever asks in another's conversation would ask with that person's role."""
        reason = f"This is {context.principal}'s conversation. Ask in one of your own."
        fact = audit("request.refused", "refused", rule="principal.other", reason=reason, sender=message.sender)
        return [fact, reply(message, Refused(rule="principal.other", reason=reason))]

    # --- answers -------------------------------------------------------------------------------------------------

    def _refuse(self, context: Context, rule: str, reason: str) -> list[Outgoing]:
        fact = audit("request.refused", "refused", rule=rule, reason=reason, user=context.principal)
        return [fact, *self._end(context, "refused", reason, Refusal(rule=rule, reason=reason))]

    def _end(self, context: Context, status: str, reason: str, refusal: Refusal) -> list[Outgoing]:
        if any(m.kind == Answered.kind() for m in context.conversation):
            return []
        return self._finish(context, Answered(status=status, answer=reason, refusal=refusal))

    def _finish(self, context: Context, answer: Answered) -> list[Outgoing]:
        root = context.conversation[0]
        return [Outgoing(root.from_agent, answer, "response", causation_id=root.message_id)]


def _root_question(conversation: Sequence[Message]) -> str:
    return Ask.model_validate_json(conversation[0].content).question.strip()


def _latest(conversation: Sequence[Message], plan: Plan) -> dict[str, Payload]:
    """What came back so far, by kind, from the agents the plan asks (an execution's outcome comes from its executor)."""
    wanted = {step.done for step in plan.steps}
    found: dict[str, Payload] = {}
    for message in conversation:
        if (
            message.kind in wanted
            and message.to_agent == OrchestratorAgent.name
            and not message.from_agent.startswith(USER)
        ):
            found[message.kind] = KINDS[message.kind].model_validate_json(message.content)
    return found
