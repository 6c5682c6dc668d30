"""What is masked, what is left, and how long it may take."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.redaction import DETECTORS, Redactor, UnknownDetector
from config import files
from jobs.redaction import load_redactor
from schemas.redaction import RedactionPolicy, RedactionRule

ours = load_redactor()

#: What stands in the text, and what must be gone of it.
PLANTED = {
    "AWS": ("use AKIAIOSFODNN7EXAMPLE for it", "AKIAIOSFODNN7EXAMPLE"),
    "Databricks": ("token dapi0123456789abcdef0123456789abcdef", "dapi0123456789abcdef0123456789abcdef"),
    "GitHub": ("ghp_" + "a1B2" * 9, "ghp_" + "a1B2" * 9),
    "Slack": ("hook xoxb-123456789012-abcdefghij", "xoxb-123456789012-abcdefghij"),
    "JWT": (
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "dozjgNryP4J3jVmNHl0w5N",
    ),
    "private key": (
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEow==\n-----END RSA PRIVATE KEY-----",
        "MIIEow==",
    ),
    "password in words": ("my password is hunter22", "hunter22"),
    "password in SQL": ("OPTIONS (user 'x', password 's3cr3t!')", "s3cr3t!"),
    "password in a URL": ("jdbc:postgresql://bob:pa55word@db:5432/x", "pa55word"),
    "bearer": ("Authorization: Bearer abcdef0123456789abcdef", "abcdef0123456789abcdef"),
    "Azure": ("AccountKey=Zm9vYmFyYmF6cXV4;EndpointSuffix", "Zm9vYmFyYmF6cXV4"),
    "SAS": ("?sv=2024&sig=abc%2Bdef%3D&se=1", "abc%2Bdef%3D"),
    "card": ("pay 4111 1111 1111 1111 now", "4111 1111 1111"),
    "IBAN": ("to DE89 3704 0044 0532 0130 00, please", "DE89 3704 0044"),
    "SSN": ("ssn 123-45-6789", "123-45-6789"),
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("place", ["message", "log", "prompt"])
def test_what_opens_doors_goes_nowhere(name: str, place: str) -> None:
    text, secret = PLANTED[name]
    masked = ours.text(f"before {text} after", place)
    assert secret not in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert ours.text(masked, place) == masked
    document = json.dumps({"question": text, "deep": [{"text": text}]})
    assert secret not in ours.content(document)
    json.loads(ours.content(document))


@pytest.mark.parametrize(
    "text",
    [
        "What are the top 10 customers by sales in 1995?",
        "SELECT c_custkey, c_phone FROM tpch.customer WHERE c_acctbal > 1234567890123456",
        "The password must not be shown. Which key figures count, and is the secret sauce good?",
        '{"expires_at": 1763748000123456, "token_count": 12}',
        "grant-1f2e3d4c5b6a d8371060-1c7b-4b2f-baa8-dc3616745b92",
        "0" * 64,
        "2026-11-21T18:00:00Z 10.0.0.1 v1.2.3",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert ours.text(text, "message") == text


def test_people_stay_in_messages_and_leave_logs_and_prompts() -> None:
    text = "orders of ana@example.com, +49 170 1234567"
    assert ours.text(text, "message") == text
    for place in ("log", "prompt"):
        assert ours.text(text, place) == "orders of [email], [phone]"


def test_a_name_makes_its_value_a_secret() -> None:
    said = {"password": "abcd", "n": 4111111111111111, "list": [{"api_key": "x1y2z3"}], "token_count": 3}
    masked = json.loads(ours.content(json.dumps(said)))
    assert masked == said | {"password": "[secret.assigned]", "list": [{"api_key": "[secret.assigned]"}]}
    assert ours.value({"client_secret": "abcdef"}, "log") == {"client_secret": "[secret.assigned]"}


def test_a_content_that_is_no_json_is_masked_as_text() -> None:
    assert "hunter22" not in ours.content('{"password is hunter22')


def test_the_last_four_are_kept_where_the_rule_says_so() -> None:
    assert ours.text("4556737586899855", "message") == "[card]9855"
    assert ours.text("4556737586899854", "message") == "4556737586899854"


def test_a_pattern_of_the_policy() -> None:
    redactor = Redactor([RedactionRule(id="staff", pattern=r"\bE-\d{5}\b", where=("log",))])
    assert redactor.text("by E-12345", "log") == "by [staff]"
    assert redactor.text("by E-12345", "message") == "by E-12345"
    assert redactor.found("by E-12345", "log") == ["staff"]


def test_a_rule_that_is_wrong_is_named() -> None:
    with pytest.raises(UnknownDetector, match=r"rule xx: there is no detector nose; there are .*email"):
        Redactor([RedactionRule(id="xx", detector="nose", where=("log",))])
    with pytest.raises(ValueError, match="RE2"):
        Redactor([RedactionRule(id="back", pattern=r"(a)\1", where=("log",))])
    with pytest.raises(ValueError, match="either a detector or a pattern"):
        RedactionRule(id="both", pattern="ab", detector="email", where=("log",))


def test_a_secret_at_a_seam_of_a_long_text() -> None:
    text = "x" * ((1 << 16) - 300) + " password=hunter2222 " + "y " * 60_000
    assert "hunter2222" not in ours.text(text, "log")


@given(st.text(max_size=300), st.sampled_from(sorted(PLANTED)), st.text(max_size=300))
def test_whatever_stands_around_it(before: str, name: str, after: str) -> None:
    text, secret = PLANTED[name]
    assert secret not in ours.text(f"{before} {text} {after}", "message")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda x: st.lists(x) | st.dictionaries(st.text(max_size=8), x),
        max_leaves=12,
    )
)
def test_json_keeps_its_shape(said: object) -> None:
    document = json.dumps(said)
    assert type(json.loads(ours.content(document))) is type(said)
    assert ours.content(ours.content(document)) == ours.content(document)


@pytest.mark.parametrize(
    "piece",
    [
        "a@",
        "+1",
        "1",
        "password=",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "A",
        "DE89 ",
        "x.y@",
        "://",
        "4111 ",
        "a.b-",
        "password is ",
    ],
)
def test_hostile_text_takes_time_that_grows_with_its_length(piece: str) -> None:
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        began = time.process_time()
        ours.text(text, "log")
        return time.process_time() - began

    seconds(1000)
    # Ten times the text: ten times the time if it is linear, a hundred times if it is not.
    assert seconds(200_000) < 40 * max(seconds(20_000), 0.002)


def test_every_detector_is_in_the_policy() -> None:
    policy = RedactionPolicy.model_validate(files.yaml("redaction.yaml"))
    assert {rule.detector for rule in policy.rules} == set(DETECTORS)
