"""Where words go: answers out, remarks aside, one document in JSON mode."""

from __future__ import annotations

import io
import sys

import pytest

from apps.cli.terminal import Terminal


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_json_mode_nothing_but_one_document_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.json = True
    terminal.show("words")
    terminal.say("a remark")
    terminal.emit({"a": 1})
    terminal.emit({"b": 2})
    said = capsys.readouterr()
    assert said.out == '{\n  "a": 1\n}\n'
    assert "a remark" in said.err


def test_words_are_no_document(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.show("words")
    terminal.emit({"a": 1})
    assert capsys.readouterr().out == "words\n"


def test_long_work_is_a_line_a_step_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().working("starting") as change:
        change("starting")
        change("nearly there")
        change("nearly there")
    assert capsys.readouterr() == ("", "… starting\n… nearly there\n")


def test_long_work_turns_a_spinner_on_a_terminal_that_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    err = Tty()
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    with terminal.working("starting") as change:
        change("nearly there")
        terminal.say("in between")
        change("done")
    text = err.getvalue()
    assert "nearly there" in text
    assert "in between\n" in text.replace("\x1b[0m", "").replace("\r", "")
    assert "\x1b[?25h" in text  # the cursor is back
    terminal.say("afterwards")
    assert "afterwards" in err.getvalue()


def test_lines_to_copy_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().hint("type ", "x" * 300)
    assert capsys.readouterr().err == f"type {'x' * 300}\n"
