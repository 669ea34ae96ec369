"""What a message asks for, once its signature holds: claims, times, reply topic, parameters (wire section 3)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts import COMMANDS, Claims, Code, Role, Token, Topics
from setpoint_contracts.system import Limits
from setpoint_contracts.topics import MAX_REPLY_TOPIC_BYTES
from setpointd.auth import principal_of
from setpointd.errors import Rejected
from setpointd.messages import Inbound
from setpointd.request import Request

NOW = 1_767_225_600.0
TOPICS = Topics("site1/")
WHO = principal_of(Token.new("HS256", "tok_a", "alice", Role.ADMIN))
OWN = "site1/config/reply/alice/"
LIMITS = Limits(
    max_command_bytes=262_144,
    max_command_lifetime_s=3600,
    max_clock_skew_s=60,
    max_config_bytes=131_072,
    max_config_keys=1000,
    max_json_levels=32,
    require_expected_version=False,
)


def claims(**changed: object) -> dict[str, Any]:
    """Make claims that are fine now, for `get`, with some of them changed; ``...`` leaves one out."""
    fine = {"jti": "j-1", "aud": "site1/config/cmd/get", "iat": NOW - 1, "exp": NOW + 60, "params": {"service": "stt"}}
    return {name: value for name, value in {**fine, **changed}.items() if value is not ...}


def read(content: dict[str, Any] | bytes, command: str = "get", **properties: Any) -> Request:
    """Read a signed message with these claims, published to a command's topic just now."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    inbound = Inbound(TOPICS.command(command), b" a.b.c\n", retain=False, received_at=NOW, **properties)
    return Request.read(inbound, WHO, body, TOPICS)


def refusal_of(request: Request, now: float = NOW) -> Rejected | None:
    """Go through rows 4 to 12 as the pipeline does; None when nothing is refused."""
    try:
        accepted = request.accept_claims(LIMITS)
        request.check_topic(accepted)
        request.check_times(accepted, now, LIMITS)
        request.check_reply_topic()
        request.parse(accepted)
    except Rejected as refusal:
        return refusal
    return None


def code(request: Request, now: float = NOW) -> Code | None:
    """Say with which code a request is refused; None when it is not."""
    refusal = refusal_of(request, now)
    return None if refusal is None else refusal.code


def test_a_request_that_is_fine() -> None:
    """Nothing is refused; the answer goes to the default topic, and the command has its parameters."""
    request = read(claims())
    assert code(request) is None
    assert (request.command, request.jti, request.reply_topic) == ("get", "j-1", OWN + "j-1")
    assert request.parse(Claims.model_validate(claims())) == COMMANDS["get"].model_validate({"service": "stt"})


@pytest.mark.parametrize(
    "changed",
    [
        {"jti": ...},
        {"jti": "a/b"},
        {"jti": ""},
        {"jti": "x" * 65},
        {"jti": 1},
        {"aud": ...},
        {"aud": ["site1/config/cmd/get"]},
        {"iat": ...},
        {"iat": str(NOW)},
        {"iat": True},
        {"iat": -1},
        {"exp": ...},
        {"exp": None},
        {"exp": NOW - 1},
        {"exp": NOW - 2},
        {"exp": NOW + 3600},
        {"exp": 1e300},
        {"params": []},
        {"params": None},
        {"reply_to": 1},
        {"reply_to": [OWN + "x"]},
        {"sub": "bob"},
        {"sub": None, "scope": "all"},
        {"nbf": "soon"},
        {"admin": True},
    ],
    ids=str,
)
def test_malformed_claims_are_a_bad_request(changed: dict[str, Any]) -> None:
    """Row 4: a claim that is missing, of another type, out of range or unknown, or a lifetime that is too long."""
    assert code(read(claims(**changed))) is Code.BAD_REQUEST


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"jti":"a","jti":"b"}', b'{"jti":"\xff"}', b"[" * 20_000]
)
def test_claims_that_are_no_object_are_a_bad_request(body: bytes) -> None:
    """Row 4 again: whatever stands in place of the claims."""
    assert code(read(body)) is Code.BAD_REQUEST


@pytest.mark.parametrize(
    ("body", "jti"),
    [
        (b'{"jti":"a-1","iat":NaN}', "a-1"),
        (b'{"jti":"a-1","jti":"b-2"}', "b-2"),
        (b'{"jti" : "a-1",', "a-1"),
        (b'{"jti":"a-1","params":' + b"[" * 20_000, "a-1"),
        (b'{"jti":"a/b"}', None),
        (b'{"jti":"../x"', None),
        (b'{"jti":1}', None),
        (b"[]", None),
        (b"\xff", None),
    ],
)
def test_an_answer_finds_its_way_whatever_the_claims_are(body: bytes, jti: str | None) -> None:
    """A sender whose signature holds learns what is wrong: under its jti if that can be made out, else `invalid`."""
    request = read(body)
    assert (request.jti, request.reply_topic) == (jti, OWN + (jti or "invalid"))


def test_what_does_not_fit_is_told_without_its_value() -> None:
    """The refusal lists the fields, says what is wrong with each, and repeats no value."""
    refusal = refusal_of(read(claims(iat="hunter2", exp="hunter2")))
    assert refusal is not None
    assert [error["field"] for error in refusal.details["errors"]] == ["iat", "exp"]
    assert all(error.keys() == {"field", "message", "type"} for error in refusal.details["errors"])
    assert "hunter2" not in refusal.message + json.dumps(refusal.details)


@pytest.mark.parametrize("aud", ["config/cmd/get", "site1/config/cmd/set", "site1/config/cmd/get/", "", "site1/#"])
def test_a_command_for_another_topic_is_refused(aud: str) -> None:
    """Row 5: signed for this very topic, or refused."""
    assert code(read(claims(aud=aud))) is Code.WRONG_TOPIC


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"exp": NOW}, Code.EXPIRED),
        ({"exp": NOW + 0.001}, None),
        ({"iat": NOW + 60, "exp": NOW + 90}, None),
        ({"iat": NOW + 60.5, "exp": NOW + 90}, Code.CLOCK_SKEW),
        ({"nbf": NOW + 60}, None),
        ({"nbf": NOW + 60.5}, Code.CLOCK_SKEW),
        ({"nbf": NOW - 9000}, None),
        ({"iat": NOW, "exp": NOW + 3600}, None),
        ({"iat": NOW - 1800.123, "exp": NOW + 1799.877}, None),
        ({"iat": int(NOW), "exp": int(NOW) + 1}, None),
    ],
    ids=str,
)
def test_times_of_a_command(changed: dict[str, Any], expected: Code | None) -> None:
    """Row 8 at its edges: `exp` is the first moment too late, and the clock skew is allowed in full."""
    assert code(read(claims(**changed))) is expected


@pytest.mark.parametrize("changed", [{"exp": NOW}, {"iat": NOW + 61, "exp": NOW + 99}], ids=["expired", "skew"])
def test_a_refusal_of_times_tells_the_time(changed: dict[str, Any]) -> None:
    """The daemon's own time goes along, for the caller to set its clock by."""
    refusal = refusal_of(read(claims(**changed)))
    assert refusal is not None
    assert refusal.details == {"server_time": "2026-01-01T00:00:00.000Z"}


def test_the_message_expiry_counts_as_well() -> None:
    """A command whose MQTT message expiry ran out while it waited here has expired, whatever its claims say."""
    assert code(read(claims(), expiry_s=5), NOW + 5) is None
    assert code(read(claims(), expiry_s=5), NOW + 5.1) is Code.EXPIRED


@pytest.mark.parametrize(
    ("reply_to", "response_topic", "topic", "expected"),
    [
        (..., None, OWN + "j-1", None),
        (None, None, None, None),
        (None, OWN + "rr", None, None),
        (OWN + "a", None, OWN + "a", None),
        (..., OWN + "rr", OWN + "rr", None),
        (OWN + "rr", OWN + "rr", OWN + "rr", None),
        (OWN + "a", OWN + "rr", OWN + "j-1", Code.BAD_REPLY_TOPIC),
        (..., "site1/config/reply/bob/x", OWN + "j-1", Code.BAD_REPLY_TOPIC),
        ("config/reply/alice/x", None, OWN + "j-1", Code.BAD_REPLY_TOPIC),
        (OWN, None, OWN + "j-1", Code.BAD_REPLY_TOPIC),
        (OWN + "#", None, OWN + "j-1", Code.BAD_REPLY_TOPIC),
        (OWN + "\x00", None, OWN + "j-1", Code.BAD_REPLY_TOPIC),
        (OWN + "x" * (MAX_REPLY_TOPIC_BYTES - len(OWN)), None, OWN + "x" * (MAX_REPLY_TOPIC_BYTES - len(OWN)), None),
        (OWN + "x" * MAX_REPLY_TOPIC_BYTES, None, OWN + "j-1", Code.BAD_REPLY_TOPIC),
        ("", None, OWN + "j-1", Code.BAD_REPLY_TOPIC),
    ],
)
def test_where_the_answer_goes(
    reply_to: object,
    response_topic: str | None,
    topic: str | None,
    expected: Code | None,
) -> None:
    """`reply_to`, else the Response Topic, else the default; a refused wish is answered on the default topic."""
    request = read(claims(reply_to=reply_to), response_topic=response_topic)
    assert request.reply_topic == topic
    assert code(request) is expected


@pytest.mark.parametrize("command", ["explode", "", "get/", "get/x/y/z", "Get", "token", "GET "])
def test_an_unknown_command_is_told_the_known_ones(command: str) -> None:
    """Row 10: the refusal lists what there is."""
    refusal = refusal_of(read(claims(aud=TOPICS.command(command)), command))
    assert refusal is not None
    assert refusal.code is Code.UNKNOWN_COMMAND
    assert refusal.details == {"known": sorted(COMMANDS)}


def test_parameters_that_do_not_fit_are_listed() -> None:
    """Row 12: each field with what is wrong with it, unknown ones included."""
    refusal = refusal_of(read(claims(params={"service": "A", "version": 0, "colour": "red"})))
    assert refusal is not None
    assert refusal.code is Code.BAD_REQUEST
    assert {error["field"] for error in refusal.details["errors"]} == {"service", "version", "colour"}
    assert "red" not in json.dumps(refusal.details)


def test_white_space_around_does_not_make_another_command() -> None:
    """The digest that tells a repetition from a conflict is of the JWS alone."""
    one = Request.read(Inbound("t", b"a.b.c", retain=False, received_at=NOW), WHO, b"{}", TOPICS)
    assert one.digest == read(claims()).digest
    assert one.digest != Request.read(Inbound("t", b"a.b.d", retain=False, received_at=NOW), WHO, b"{}", TOPICS).digest


@given(st.binary(max_size=60), st.none() | st.text(max_size=20))
def test_no_claims_at_all_make_it_fail(body: bytes, response_topic: str | None) -> None:
    """Whatever is signed is either fine or refused, and is answered in the caller's own space, or not at all."""
    request = read(body, response_topic=response_topic)
    assert request.reply_topic is None or TOPICS.reply_refusal("alice", request.reply_topic) is None
    assert isinstance(refusal_of(request), Rejected)
