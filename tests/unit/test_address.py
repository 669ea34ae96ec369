"""Where the reply to a command goes, whatever its claims are (wire sections 3, row 9, and 4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts.topics import MAX_REPLY_TOPIC_BYTES
from tests.unit.claims import OWN, TOPICS, address, claims, encoded


def test_a_return_address() -> None:
    """Command, jti and topic are read off the message, and the correlation data goes along."""
    to = address(claims(), correlation_data=b"\x00c")
    assert (to.command, to.jti, to.topic, to.correlation, to.refusal) == ("get", "j-1", OWN + "j-1", b"\x00c", None)


@pytest.mark.parametrize(
    ("body", "jti"),
    [
        (b'{"jti":"a-1","iat":NaN}', "a-1"),
        (b'{"jti":"a-1","jti":"b-2"}', "b-2"),
        (b'{"jti":"a-1","params":{"s":"\\ud800"}}', "a-1"),
        (b'{"jti":"a-1","iat":' + b"9" * 5000 + b"}", "a-1"),
        (b'{"jti":"a-1","params":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "a-1"),
        (b'{"params":{"jti":"nested"},"jti":"x"}', "x"),
        (b'{"params":{"jti":"nested"}}', None),
        (b'{"params":{"jti":"nested"},"jti":"x",}', None),
        (b'{"jti" : "a-1",', None),
        (b'{"jti":"a-1","params":' + b"[" * 20_000, None),
        (b'{"jti":"a/b"}', None),
        (b'{"jti":"\\ud800"}', None),
        (b'{"jti":"../x"', None),
        (b'{"jti":1}', None),
        (b"[]", None),
        (b"\xff", None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_answer_finds_its_way_whatever_the_claims_are(body: bytes, jti: str | None) -> None:
    """A sender whose signature holds learns what is wrong: under its jti if a JSON reader can read it, else `invalid`.

    Nothing is fished out of what no reader can read.
    """
    to = address(body)
    assert (to.jti, to.topic) == (jti, OWN + (jti or "invalid"))


@pytest.mark.parametrize(
    ("reply_to", "response_topic", "topic", "refused"),
    [
        (..., None, OWN + "j-1", False),
        (None, None, None, False),
        (None, OWN + "rr", None, False),
        (OWN + "a", None, OWN + "a", False),
        (..., OWN + "rr", OWN + "rr", False),
        (OWN + "rr", OWN + "rr", OWN + "rr", False),
        (OWN + "a", OWN + "rr", OWN + "j-1", True),
        (..., "site1/config/reply/bob/x", OWN + "j-1", True),
        ("config/reply/alice/x", None, OWN + "j-1", True),
        (OWN, None, OWN + "j-1", True),
        (OWN + "#", None, OWN + "j-1", True),
        (OWN + "\x00", None, OWN + "j-1", True),
        (OWN + "\ud800", None, OWN + "j-1", True),
        (OWN + "x" * (MAX_REPLY_TOPIC_BYTES - len(OWN)), None, OWN + "x" * (MAX_REPLY_TOPIC_BYTES - len(OWN)), False),
        (OWN + "x" * MAX_REPLY_TOPIC_BYTES, None, OWN + "j-1", True),
        ("", None, OWN + "j-1", True),
        (1, None, OWN + "j-1", False),
        ([OWN + "x"], None, OWN + "j-1", False),
    ],
)
def test_where_the_answer_goes(
    reply_to: object,
    response_topic: str | None,
    topic: str | None,
    refused: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """`reply_to`, else the Response Topic, else the default; a refused wish is answered on the default topic."""
    to = address(claims(reply_to=reply_to), response_topic=response_topic)
    assert to.topic == topic
    assert (to.refusal is not None) == refused


@given(
    st.binary(max_size=60) | st.dictionaries(st.sampled_from(["jti", "reply_to"]), st.text(max_size=20)).map(encoded),
    st.none() | st.text(max_size=20) | st.text(max_size=20).map(OWN.__add__),
)
def test_no_claims_at_all_lead_astray(body: bytes, response_topic: str | None) -> None:
    """Whatever is signed is answered in the caller's own space, or not at all."""
    to = address(body, response_topic=response_topic)
    assert to.topic is None or TOPICS.reply_refusal("alice", to.topic) is None
