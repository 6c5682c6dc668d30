"""Writes the table of attacks into docs/security.md, between its markers: `python -m tests.attacks.document`."""

from __future__ import annotations

from pathlib import Path

from tests.attacks.everything import by_class
from tests.attacks.table import CLASSES, Attack

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN = "<!-- attacks: written by python -m tests.attacks.document -->"
END = "<!-- /attacks -->"


def table() -> str:
    attacks = by_class()
    total = sum(map(len, attacks.values()))
    proven = sum(1 for all_of_one in attacks.values() for one in all_of_one if one.without)
    lines = [
        f"{total} attacks, {proven} of them also shown to succeed when the guard that they name is switched off.",
        "",
        "| class | what it is | cases | shown without its guard |",
        "|---|---|---:|---:|",
    ]
    for name, cases in attacks.items():
        lines.append(f"| {name} | {CLASSES[name]} | {len(cases)} | {sum(1 for one in cases if one.without)} |")
    for name, cases in attacks.items():
        lines += [
            "",
            f"### {name}",
            "",
            "| | the attack | held by | refused by rule | without |",
            "|---|---|---|---|---|",
        ]
        lines += [_row(one) for one in cases]
    return "\n".join(lines)


def written(document: str) -> str:
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _row(one: Attack) -> str:
    name = one.id.removeprefix(f"{one.attack_class}/")
    does = f"`` {_plain(one.does)} ``" if one.attack_class == "sql-smuggling" else _plain(one.does)
    rule = f"`{one.rule}`" if one.rule else ""
    return f"| {name} | {does} | {one.guard} | {rule} | {'succeeds' if one.without else ''} |"


def _plain(text: str) -> str:
    """One line of a table, with every character that hides itself written out."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown.strip().replace("|", "\\|")


def main() -> None:
    DOCUMENT.write_text(written(DOCUMENT.read_text()))


if __name__ == "__main__":
    main()
