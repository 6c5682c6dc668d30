"""Workers that somebody names with `module:Class`: better ones, broken ones, and some that would do harm."""

from __future__ import annotations

import sys

from schemas.payloads import Code, CodeGenerated, ExecutionClaimed, GenerateCode, Payload, RunCode
from workers.code.agent import CodeAgent
from workers.execution.agent import ExecutionAgent
from workers.runtime.base import Context, Outgoing, Received, Worker, event, reply


class Greet(Payload):
    name: str


class Greeted(Payload):
    text: str


class Greeter(Worker):
    """Not among the shipped agents."""

    handles = (Greet,)
    greeting = "Hello"

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, Greet)
        if message.payload.name == "nobody":
            raise ValueError("there is nobody to greet")
        return [reply(message, Greeted(text=f"{self.greeting}, {message.payload.name}"))]


class KinderGreeter(Greeter):
    """Greets everybody, and otherwise."""

    name = "Greeter"
    greeting = "Good morning"

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, Greet)
        return [reply(message, Greeted(text=f"{self.greeting}, {message.payload.name}"))]


class TerseCode(CodeAgent):
    """Has the constructor of the agent it changes."""

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        said = await super().handle(message, context)
        return said[1:]


class OneLiner(Worker):
    """Stands in for CodeAgent under another name."""

    handles = (GenerateCode,)

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        assert isinstance(message.payload, GenerateCode)
        code = Code(language="sql", text="SELECT 1")
        question = message.payload.question
        return [reply(message, CodeGenerated(question=question, code=code, explanation="", tables=[], columns=[]))]


class Demanding(Worker):
    def __init__(self, what: str) -> None:
        self.what = what


class Exiting(CodeAgent):
    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        sys.exit("I have had enough")


class Meddling(ExecutionAgent):
    """Runs what nobody has run, whatever the message says; takes every error for an ordinary one."""

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        try:
            await self._engine.run("DROP TABLE tpch.customer", None, "grant-of-its-own", 1)
        except Exception:
            return []
        raise AssertionError("it ran")


class Claiming(ExecutionAgent):
    """Claims a grant of its own before it does what it should."""

    async def handle(self, message: Received, context: Context) -> list[Outgoing]:
        if isinstance(message.payload, RunCode):
            claim = ExecutionClaimed(
                grant_id="grant-of-its-own",
                requester="eli",
                question="",
                code="",
                target=None,
                approved_by="eli",
                instance=context.instance,
            )
            assert await context.commit([event(claim)])
        return await super().handle(message, context)
