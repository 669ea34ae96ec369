"""What a command must be before it may run: claims, topic, times, reply topic, parameters (wire section 3)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setpoint_contracts import COMMANDS, Claims, Code
from setpoint_contracts.config import Get
from setpointd.checks import MAX_ERRORS, check_reply_topic, check_times, check_topic, read_claims, read_params
from setpointd.errors import Rejected
from tests.calls import ALICE, NOW
from tests.limits import LIMITS
from tests.unit.claims import OWN, address, claims, message, parsed

HOUR = LIMITS.model_copy(update={"max_command_lifetime_s": 3600})


def refusal_of(content: object, now: float = NOW, **properties: Any) -> Rejected | None:
    """Go through rows 4 to 12 of a `get`, as the pipeline does; None when nothing is refused."""
    inbound = message(**properties)
    try:
        accepted = read_claims(parsed(content), ALICE, HOUR)
        check_topic(accepted, inbound)
        check_times(accepted, inbound, now, HOUR)
        check_reply_topic(address(content, **properties))
        read_params(Get, accepted.params)
    except Rejected as refusal:
        return refusal
    return None


def code(content: object, now: float = NOW, **properties: Any) -> Code | None:
    """Say with which code a command is refused; None when it is not."""
    refusal = refusal_of(content, now, **properties)
    return None if refusal is None else refusal.code


def test_a_command_that_is_fine() -> None:
    """Nothing is refused, and the command has its parameters."""
    assert code(claims()) is None
    assert read_claims(parsed(claims()), ALICE, HOUR) == Claims.model_validate(claims())
    assert read_params(Get, {"service": "stt"}) == COMMANDS["get"].model_validate({"service": "stt"})


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
    assert code(claims(**changed)) is Code.BAD_REQUEST


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"jti":"a","jti":"b"}', b'{"jti":"\xff"}', b"[" * 20_000]
)
def test_claims_that_are_no_object_are_a_bad_request(body: bytes) -> None:
    """Row 4 again: whatever stands in place of the claims."""
    assert code(body) is Code.BAD_REQUEST


def test_what_does_not_fit_is_told_without_its_value() -> None:
    """The refusal lists the fields, says what is wrong with each, and repeats no value."""
    refusal = refusal_of(claims(iat="hunter2", exp="hunter2"))
    assert refusal is not None
    assert [error["field"] for error in refusal.details["errors"]] == ["iat", "exp"]
    assert all(error.keys() == {"field", "message", "type"} for error in refusal.details["errors"])
    assert "hunter2" not in refusal.message + json.dumps(refusal.details)


@pytest.mark.parametrize("aud", ["config/cmd/get", "site1/config/cmd/set", "site1/config/cmd/get/", "", "site1/#"])
def test_a_command_for_another_topic_is_refused(aud: str) -> None:
    """Row 5: signed for this very topic, or refused."""
    assert code(claims(aud=aud)) is Code.WRONG_TOPIC


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
    assert code(claims(**changed)) is expected


@pytest.mark.parametrize("changed", [{"exp": NOW}, {"iat": NOW + 61, "exp": NOW + 99}], ids=["expired", "skew"])
def test_a_refusal_of_times_tells_the_time(changed: dict[str, Any]) -> None:
    """The daemon's own time goes along, for the caller to set its clock by."""
    refusal = refusal_of(claims(**changed))
    assert refusal is not None
    assert refusal.details == {"server_time": "2026-01-01T00:00:00.000Z"}


def test_the_message_expiry_counts_as_well() -> None:
    """A command whose MQTT message expiry ran out while it waited here has expired, whatever its claims say."""
    assert code(claims(), NOW + 5, expiry_s=5) is None
    assert code(claims(), NOW + 5.1, expiry_s=5) is Code.EXPIRED


def test_parameters_that_do_not_fit_are_listed() -> None:
    """Row 12: each field with what is wrong with it, unknown ones included."""
    refusal = refusal_of(claims(params={"service": "A", "version": 0, "colour": "red"}))
    assert refusal is not None
    assert refusal.code is Code.BAD_REQUEST
    assert {error["field"] for error in refusal.details["errors"]} == {"service", "version", "colour"}
    assert "red" not in json.dumps(refusal.details)


@given(st.binary(max_size=60), st.none() | st.text(max_size=20))
def test_no_claims_at_all_make_it_fail(body: bytes, response_topic: str | None) -> None:
    """Whatever is signed is either fine or refused."""
    assert isinstance(refusal_of(body, response_topic=response_topic), Rejected)


@pytest.mark.parametrize("params", [{"service": "stt", "version": 1.0}, {"service": "stt", "version": 1}])
def test_an_integral_number_is_an_integer(params: dict[str, Any]) -> None:
    """1.0 stands for 1 in parameters, however it is spelled."""
    command = read_params(Get, params)
    assert isinstance(command, Get)
    assert repr(command.version) == "1"


@pytest.mark.parametrize("version", [True, 1.5, "1", 2**63])
def test_what_is_no_integer_is_none(version: object) -> None:
    """A boolean, a fraction, text and what is out of range are refused."""
    with pytest.raises(Rejected):
        read_params(Get, {"service": "stt", "version": version})


def test_a_refusal_lists_no_more_than_a_hundred_problems() -> None:
    """No reply is many times as large as its command."""
    refusal = refusal_of(claims(params={f"k{n}": n for n in range(500)}))
    assert refusal is not None
    assert len(refusal.details["errors"]) == MAX_ERRORS


def test_the_message_expiry_counts_from_the_arrival() -> None:
    """Waiting in the inbox uses it up."""
    assert code(claims(), expiry_s=5, received_at=NOW - 5) is None
    assert code(claims(), expiry_s=5, received_at=NOW - 5.1) is Code.EXPIRED


@pytest.mark.parametrize(
    ("content", "field", "kind"),
    [
        (b"{", "", "json_invalid"),
        (b"[]", "", "dict_type"),
        (claims(exp=NOW - 2), "exp", "too_early"),
        (claims(exp=NOW + 3600), "exp", "too_late"),
        (claims(sub="bob"), "sub", "wrong_name"),
        (claims(jti=...), "jti", "missing"),
    ],
    ids=str,
)
def test_malformed_claims_are_listed_as_parameters_are(content: object, field: str, kind: str) -> None:
    """`details.errors` says which claim it is and what is wrong, for programs, whatever it is."""
    refusal = refusal_of(content)
    assert refusal is not None
    [error] = refusal.details["errors"]
    assert (error["field"], error["type"]) == (field, kind)
    assert error["message"]
