from io import StringIO

import pytest
from rich.console import Console

from apps.cli.terminal import THEME
from apps.cli.views.bench import measurements
from jobs.bench.table import Measurements
from tests.bench.picture import contestants, figures, fill


def shown(out: Measurements) -> str:
    console = Console(theme=THEME, width=140, record=True, file=StringIO())
    console.print(measurements(out.rows))
    return console.export_text()


def test_what_a_message_costs_is_a_column_only_where_it_was_measured() -> None:
    out = Measurements()
    out.times("append", [1.0, 2.0, 3.0])
    assert "CPU ms" not in shown(out)
    out.times("Tailrace (tail, os)", [2.0, 4.0], per_second=1234.5, cpu_ms=0.81)
    text = shown(out)
    assert "CPU ms" in text
    assert "1,234" in text or "1,235" in text
    assert "0.81" in text


def test_the_page_says_which_goals_were_missed() -> None:
    out = Measurements()
    out.ratio("bulk append, signed / COPY", 0.42, "at least 1 x", False)
    out.figure("dramatiq", "left out: no redis-server")
    table = figures(out.document())
    assert "| bulk append, signed / COPY | 0.42 x | at least 1 x | **missed** |" in table
    assert "left out: no redis-server" in table


def test_contestants_stand_in_a_table_of_their_own() -> None:
    out = Measurements()
    out.times("procrastinate", [7.0], per_second=305.0, cpu_ms=4.83)
    out.figure("lost", "0")
    assert contestants(out.document()).splitlines()[2:] == ["| procrastinate | 7.0 | 7.0 | 7.0 | 305 | 4.83 |"]
    assert "procrastinate" not in figures(out.document())


def test_a_page_is_filled_again_and_again() -> None:
    page = "a\n<!-- measured -->\n<!-- /measured -->\nb\n"
    once = fill(page, "measured", "first")
    twice = fill(once, "measured", "second")
    assert "first" in once
    assert twice.startswith("a\n")
    assert twice.endswith("\nb\n")
    assert "first" not in twice
    assert "second" in twice


def test_a_page_without_the_place_is_refused() -> None:
    with pytest.raises(SystemExit, match="no place for anatomy"):
        fill("nothing here", "anatomy", "x")
