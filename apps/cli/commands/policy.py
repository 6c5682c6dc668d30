"""`tailrace policy`: what the policy says, why it decides as it does, and what another one would have decided."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from apps.cli.exits import DONE, FAILED, MISUSE, CommandError
from apps.cli.options import Json, Since, Until, terminal_of
from apps.cli.session import open_system

if TYPE_CHECKING:
    from jobs.bootstrap import System
    from jobs.policies import LoadedPolicy

app = typer.Typer(
    no_args_is_help=True, help="Who may have what done, and who says yes: check, show, explain, test a policy."
)


@app.callback()
def group() -> None:
    """Who may have what done, and who says yes."""


Place = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE|FOLDER", help="Another policy than the configured one.", show_default=False),
]


@app.command()
def check(context: typer.Context, policy: Place = None, json: Json = False) -> None:
    """Whether the policy can be used. Exit code 2: it cannot, and what is wrong is named with file, rule and remedy."""
    from apps.cli.views.policy import checked, problems
    from jobs.policies import BadPolicy

    terminal = terminal_of(context)
    try:
        loaded = _load(open_system(home_needed=False), policy)
    except BadPolicy as error:
        terminal.show(problems(error.problems))
        terminal.emit({"ok": False, "problems": list(error.problems)})
        raise typer.Exit(MISUSE) from error
    terminal.show(checked(loaded))
    terminal.emit({"ok": True, **_described(loaded), "warnings": list(loaded.warnings)})


@app.command()
def show(context: typer.Context, policy: Place = None, json: Json = False) -> None:
    """The rules in the order in which they count, and the digest that every decision names."""
    from apps.cli.views.policy import rules

    terminal = terminal_of(context)
    loaded = _load(open_system(home_needed=False), policy)
    terminal.show(rules(loaded))
    terminal.emit({**_described(loaded), "policy": loaded.policy.model_dump(mode="json", exclude_none=True)})


@app.command()
def explain(
    context: typer.Context,
    user: Annotated[str | None, typer.Option("--as", metavar="USER", help="Who asks.", show_default=False)] = None,
    role: Annotated[
        str | None, typer.Option("--role", metavar="ROLE", help="In the place of a user.", show_default=False)
    ] = None,
    subject: Annotated[
        str, typer.Option("--subject", help="execution, retraining, promotion or document.")
    ] = "execution",
    language: Annotated[
        str | None, typer.Option("--language", help="sql, python, pyspark or restore.", show_default=False)
    ] = None,
    statement_class: Annotated[
        str | None,
        typer.Option("--class", help="read, create, write, delete, drop, alter, grant or other.", show_default=False),
    ] = None,
    reads: Annotated[
        list[str] | None,
        typer.Option(
            "--reads", metavar="TABLE[.COLUMN]", help="schema.table, or schema.table.column; may be repeated; `none`."
        ),
    ] = None,
    writes: Annotated[
        str | None, typer.Option("--writes", metavar="TABLE", help="The table that is written.", show_default=False)
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=0, help="Rows that are read.", show_default=False)] = None,
    bytes_: Annotated[
        int | None, typer.Option("--bytes", min=0, help="Bytes that are read.", show_default=False)
    ] = None,
    removes: Annotated[
        int | None, typer.Option("--removes", min=0, help="Rows of the target that are gone then.", show_default=False)
    ] = None,
    changes: Annotated[
        int | None,
        typer.Option("--changes", min=0, help="Rows of the target that are others then.", show_default=False),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", min=0, max=1, help="Of who wrote the code.", show_default=False)
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option("--env", metavar="NAME", help="The environment; that of the settings.", show_default=False),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="An ISO time; now.", show_default=False)
    ] = None,
    policy: Place = None,
    json: Json = False,
) -> None:
    """Which rule decides on a question, and why each of the others does not. What is left out is not known.

    For example: tailrace policy explain --as eli --language sql --class read --reads tpch.customer.c_phone
    """
    from apps.cli.views.policy import explanation
    from schemas.payloads import EffectPreview, Subject
    from schemas.policy import Language, StatementClass
    from workers.governance.policy import PolicyEngine, Question

    terminal = terminal_of(context)
    system = open_system(home_needed=False)
    loaded = _load(system, policy)
    principal, known_role = _who(system, user, role)
    effect = None
    if removes is not None or changes is not None:
        effect = EffectPreview(
            table=writes or "",
            version=0,
            rows_before=None,
            rows_after=None,
            added=None,
            changed=changes,
            removed=removes,
        )
    question = Question(
        subject=_one_of("--subject", subject, get_args(Subject)),
        principal=principal,
        role=known_role,
        environment=environment or system.settings.env,
        now=_time(at, system),
        language=_one_of("--language", language, get_args(Language)),
        statement_class=_one_of("--class", statement_class, get_args(StatementClass)),
        reads=_reads(reads),
        writes=writes,
        rows=rows,
        bytes=bytes_,
        changes=effect,
        confidence=confidence,
    )
    engine = PolicyEngine(loaded.policy)
    decision, looks = engine.decide(question), engine.explain(question)
    terminal.show(explanation(question, decision, looks))
    terminal.emit(
        {
            "effect": decision.effect,
            "rule": decision.rule,
            "reason": decision.reason,
            "policy": decision.policy,
            "approval": decision.approval.model_dump(mode="json") if decision.approval else None,
            "before_dry_run": engine.before_dry_run(question).effect,
            "rules": [
                {
                    "rule": look.rule.id,
                    "effect": look.rule.effect,
                    "holds": look.truth,
                    "because": [condition.name for condition in look.because],
                }
                for look in looks
            ],
        }
    )


@app.command("test")
def try_(
    context: typer.Context,
    policy: Place = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Changes to show.")] = 20,
    fail_on_change: Annotated[
        bool, typer.Option("--fail-on-change", help="Exit with 1 when something changes.", show_default=False)
    ] = False,
    json: Json = False,
) -> None:
    """Decide recorded requests by a policy, and say what would have been decided differently. Nothing is sent.

    Roles and groups are today's. Tables, plans, effects and times are those that were recorded, in the log or its archive.
    """
    from apps.cli.views.policy import trial_report, trying
    from jobs.policy_trial import try_policy
    from workers.governance.policy import PolicyEngine

    terminal = terminal_of(context)
    system = open_system()
    loaded = _load(system, policy)
    with trying(terminal) as progress:
        report = try_policy(system, PolicyEngine(loaded.policy), since, until, progress)
    terminal.show("", trial_report(report, limit), "")
    terminal.emit({"files": list(loaded.files), **report.document()})
    raise typer.Exit(FAILED if fail_on_change and report.changes else DONE)


def _load(system: System, place: Path | None) -> LoadedPolicy:
    from config.roles import Roles
    from jobs.policies import load_policy

    return load_policy(Roles.load(system.settings.env), place)


def _described(loaded: LoadedPolicy) -> dict[str, Any]:
    return {"digest": loaded.policy.digest, "files": list(loaded.files), "rules": len(loaded.policy.rules)}


def _who(system: System, user: str | None, role: str | None) -> tuple[str, str]:
    """A person and their role. Raises CommandError."""
    from workers.ports import UnknownUser

    if role is not None:
        return user or "somebody", role
    if user is None:
        raise CommandError("it is not said who asks", "--as USER, or --role ROLE", MISUSE)
    try:
        return user, system.roles.role_of(user)
    except UnknownUser as error:
        raise CommandError(str(error), "--role ROLE asks for somebody who is not there", MISUSE) from error


def _one_of(option: str, value: str | None, allowed: tuple[str, ...]) -> Any:
    if value is not None and value not in allowed:
        raise CommandError(f"{option} {value} is none of {', '.join(allowed)}", f"{option} takes one of these", MISUSE)
    return value


def _time(text: str | None, system: System) -> datetime:
    if text is None:
        return system.clock.now()
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise CommandError(f"--at {text} is no ISO time", "for example --at 2026-03-01T22:30", MISUSE) from error


def _reads(said: list[str] | None) -> dict[str, frozenset[str]] | None:
    """`none`: nothing is read; a table alone: all of its columns; nothing said: not known."""
    if not said:
        return None
    found: dict[str, set[str]] = {}
    for name in said:
        parts = name.split(".")
        if name == "none":
            continue
        if len(parts) not in (2, 3) or "" in parts:
            raise CommandError(f"--reads {name} is neither schema.table nor schema.table.column", "or `none`", MISUSE)
        found.setdefault(".".join(parts[:2]), set()).add(parts[2] if len(parts) == 3 else "*")
    return {table: frozenset(columns) for table, columns in found.items()}
