"""`tailrace send`: one message to any agent, known to us or not."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps.cli.exits import MISUSE, TIMED_OUT, CommandError
from apps.cli.options import As, Json, terminal_of
from apps.cli.session import check_user, open_system, speaking_as
from apps.cli.terminal import Terminal

if TYPE_CHECKING:
    from jobs.bootstrap import System


def send(
    context: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="AGENT", help="The addressee, such as rag.", show_default=False)],
    kind: Annotated[str, typer.Option("--kind", help="Type of the payload, such as Ask.", show_default=False)],
    content: Annotated[str, typer.Option("--content", metavar="JSON|@FILE|-", help="The payload.", show_default=False)],
    user: As,
    priority: Annotated[int, typer.Option("--priority", min=1, max=10, help="10 is the most urgent.")] = 5,
    correlation: Annotated[
        str | None, typer.Option("--correlation", metavar="ID", help="Continue this conversation.")
    ] = None,
    wait: Annotated[float, typer.Option("--wait", min=0, metavar="S", help="Seconds to wait for the response.")] = 0.0,
    json: Json = False,
) -> None:
    """Send one message, and wait for its response if told to. Kinds we do not know are sent as they are."""
    from apps.cli.absent import absent, absent_words
    from bus.errors import TimedOut
    from jobs.agents import full_name
    from schemas.envelope import EVERYONE, is_user

    terminal = terminal_of(context)
    to = full_name(to)
    payload = raw_payload(kind, text_of(content))
    system = open_system()
    if system.unity_schema is not None and system.settings.zerobus_endpoint is not None and not wait:
        _without_spark(terminal, system, user, to, payload, correlation, priority)
        return
    response, late = None, False
    with speaking_as(system, user) as client, client.listen() as arrivals:
        sent = client.send(to, payload, correlation_id=correlation, priority=priority)
        nobody_runs = not is_user(to) and to != EVERYONE and absent(system, to)
        if nobody_runs:
            terminal.hint(*absent_words(to))
        if wait:
            with terminal.working(f"waiting for {to}"):
                try:
                    response = arrivals.response_to(sent.message_id, wait)
                except TimedOut:
                    late = True
    terminal.show(f"[good]✓[/] in the log: {sent.kind} to [agent]{to}[/]", f"  [quiet]message[/] {sent.message_id}")
    terminal.show(f"  [quiet]conversation[/] {sent.correlation_id}")
    if response is not None and not terminal.json:
        terminal.out.print(f"  [quiet]response[/] {response.kind}")
        terminal.out.print_json(data=parsed(response.content))
    document = {
        "message_id": sent.message_id,
        "correlation_id": sent.correlation_id,
        "to": to,
        "kind": kind,
        "nobody_runs": nobody_runs,
        "response": None if response is None else {"kind": response.kind, "content": parsed(response.content)},
    }
    if late:
        cause = f"no response from {to} within {wait:g} s; the request stays in the log and is answered when {to} runs"
        # What continues a conversation may be answered long after the conversation was.
        then = "trace" if correlation else "wait"
        raise CommandError(cause, f"tailrace {then} {sent.correlation_id}", TIMED_OUT, done=document)
    terminal.emit(document)


def _without_spark(
    terminal: Terminal, system: System, user: str, to: str, payload: Any, correlation: str | None, priority: int
) -> None:
    """Through Zerobus. Nothing is read back, so nobody can say who runs."""
    from jobs.zerobus import send_through_zerobus

    check_user(system, user)
    sent = send_through_zerobus(system, user, to, payload, correlation_id=correlation, priority=priority)
    terminal.show(f"[good]✓[/] durable, and in the table within seconds: {sent.kind} to [agent]{to}[/]")
    terminal.show(f"  [quiet]message[/] {sent.message_id}", f"  [quiet]conversation[/] {sent.correlation_id}")
    ids = {"message_id": sent.message_id, "correlation_id": sent.correlation_id, "to": to, "kind": sent.kind}
    terminal.emit({**ids, "nobody_runs": None, "response": None})


def text_of(content: str) -> str:
    """The argument, a file's text (`@path`), or standard input (`-`). Raises CommandError."""
    if content == "-":
        return sys.stdin.read()
    if content.startswith("@"):
        try:
            return Path(content[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(
                f"{content[1:]} cannot be read: {error}", "--content @FILE names a text file", MISUSE
            ) from error
    return content


def parsed(content: str) -> Any:
    try:
        return json_module.loads(content)
    except ValueError:
        return content


def raw_payload(kind: str, content: str) -> Any:
    """A payload of this kind with exactly this content; of our own kinds only a valid one. Raises CommandError."""
    from pydantic import ValidationError

    from schemas.payloads import KINDS, Payload

    try:
        json_module.loads(content)
    except ValueError as error:
        raise CommandError(
            f"the content is not JSON: {error}", '--content \'{"question": "…"}\', @FILE or -', MISUSE
        ) from error
    if kind in KINDS:
        try:
            KINDS[kind].model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "content"
            fields = ", ".join(KINDS[kind].model_fields)
            raise CommandError(f"{kind}.{where}: {first['msg']}", f"{kind} has the fields {fields}", MISUSE) from error

    class Raw(Payload):
        """What somebody else's agent understands."""

        @classmethod
        def kind(cls) -> str:
            return kind

        def model_dump_json(self, **_: Any) -> str:
            return content

    return Raw()
