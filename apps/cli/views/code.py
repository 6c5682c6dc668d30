"""Code in colours, laid out so that a person can check it."""

from __future__ import annotations

from rich.padding import Padding
from rich.syntax import Syntax

from apps.cli.views.safe import safe

THEME = "ansi_dark"


def code(text: str, language: str) -> Padding:
    if language == "sql":
        text = _laid_out(text)
    shown = Syntax(safe(text), language, theme=THEME, background_color="default", word_wrap=True)
    return Padding(shown, (0, 0, 0, 2))


def _laid_out(sql: str) -> str:
    """Over several lines, for the eye only; as it stands when it is so already or cannot be parsed."""
    if "\n" in sql.strip():
        return sql
    try:
        import sqlglot

        return sqlglot.transpile(sql, read="spark", write="spark", pretty=True)[0]
    except Exception:
        return sql
