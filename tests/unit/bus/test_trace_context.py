"""W3C trace context: what is one, what is none, and what children of it share."""

from __future__ import annotations

import pytest

from schemas.trace import TraceContext, child_traceparent, new_traceparent, parse_traceparent

EXAMPLE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_new_one_is_one_and_no_two_are_alike() -> None:
    made = [parse_traceparent(new_traceparent()) for _ in range(100)]
    assert all(made)
    assert len({one.trace_id for one in made if one}) == 100


def test_a_child_is_in_the_trace_with_a_span_of_its_own() -> None:
    child = parse_traceparent(child_traceparent(EXAMPLE.replace("-01", "-00"), "c"))
    assert child is not None
    assert (child.trace_id, child.flags) == ("4bf92f3577b34da6a3ce929d0e0e4736", "00")
    assert child.span_id != "00f067aa0ba902b7"
    assert str(parse_traceparent(EXAMPLE)) == EXAMPLE


@pytest.mark.parametrize("parent", [None, "", "nonsense", EXAMPLE.upper(), EXAMPLE + "-more"])
def test_without_a_parent_the_conversation_is_the_trace(parent: str | None) -> None:
    first, second = (parse_traceparent(child_traceparent(parent, "c-1")) for _ in range(2))
    other = parse_traceparent(child_traceparent(parent, "c-2"))
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.trace_id == second.trace_id != other.trace_id
    assert first.span_id != second.span_id


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        EXAMPLE[:-1],
        EXAMPLE.replace("00-4bf", "ff-4bf"),
        EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        EXAMPLE.replace("00f067aa0ba902b7", "0" * 16),
        EXAMPLE + "\n",
    ],
)
def test_what_is_no_traceparent_is_none(text: str | None) -> None:
    assert parse_traceparent(text) is None


def test_a_later_version_is_read_as_far_as_we_know_it() -> None:
    assert parse_traceparent("cc" + EXAMPLE[2:] + "-more") == TraceContext(
        "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    )
