"""The two shapes of a reply, and the third way to answer: what was said before (wire section 4)."""

import json

import pytest

from setpoint_contracts import Code, Reply, Role, Token, Topics
from setpointd.auth import principal_of
from setpointd.errors import Rejected, VersionConflict
from setpointd.messages import Inbound
from setpointd.records import Claim, Document
from setpointd.replies import Answer
from setpointd.request import Request

AT = "2026-11-23T10:00:00.123Z"
CLAIM = Claim("store", epoch=3, revision=812, instance=None)
WHO = principal_of(Token.new("HS256", "tok_a", "alice", Role.ADMIN))


def request(payload: bytes = b"a.b.c", claims: bytes = b'{"jti":"j-1"}') -> Request:
    """Make a request for `set`."""
    return Request.read(Inbound("config/cmd/set", payload, retain=False, received_at=0.0), WHO, claims, Topics())


def test_a_result() -> None:
    """A reply with a result has exactly the members of the wire, in their order, as compact UTF-8."""
    answer = Answer.accepted(request(), {"name": "é"}, CLAIM, AT)
    text = f'{{"id":"j-1","command":"set","ok":true,"result":{{"name":"é"}},"revision":812,"epoch":3,"ts":"{AT}"}}'
    assert answer == Answer("ok", text.encode())
    assert Reply.model_validate_json(answer.payload).result == {"name": "é"}


@pytest.mark.parametrize("code", Code)
def test_an_error_says_whether_it_may_be_sent_again(code: Code) -> None:
    """An error has its code, whether it is final, and details only if there are any."""
    answer = Answer.refused(request(), Rejected(code, "no"), CLAIM, AT)
    body = json.loads(answer.payload)
    assert answer.code == code
    assert body["error"] == {"code": code, "message": "no", "retryable": code.retryable}
    assert {"ok", "result"} & body.keys() == {"ok"}
    assert Reply.model_validate(body).error is not None


def test_a_version_conflict_carries_the_current_document() -> None:
    """A writer that lost learns at once where the service is."""
    current = Document("stt", version=15, revision=90, epoch=3, updated_at=AT, updated_by="bob", config={"a": 1})
    reply = Reply.model_validate_json(Answer.refused(request(), VersionConflict("stt", 14, current), CLAIM, AT).payload)
    assert reply.error is not None
    assert reply.error.details == {"current": current.as_wire()}
    assert "version 15, not version 14" in reply.error.message


@pytest.mark.parametrize(
    ("expected", "current", "words"),
    [
        (4, None, "is absent, not version 4"),
        (0, Document("stt", 2, 5, 1, AT, "bob", {}), "is at version 2, not absent"),
        (1, Document("stt", 2, 5, 1, AT, "bob", None), "is deleted, not version 1"),
    ],
)
def test_a_version_conflict_in_words(expected: int, current: Document | None, words: str) -> None:
    """The message says where the service is, not where it was expected."""
    assert words in VersionConflict("stt", expected, current).message


def test_without_usable_jti_the_id_is_null() -> None:
    """A signed message whose jti cannot be read is answered without an id."""
    answer = Answer.refused(request(claims=b"{}"), Rejected(Code.BAD_REQUEST, "no"), CLAIM, AT)
    assert Reply.model_validate_json(answer.payload).id is None


def test_a_stored_reply_is_repeated_byte_for_byte() -> None:
    """The same command gets the very bytes it got before."""
    first = request()
    assert Answer.repeated((first.digest, b'{"stored": 1}'), first) == Answer("repeated", b'{"stored": 1}')


def test_other_bytes_under_the_same_jti_are_a_conflict() -> None:
    """A stored reply is for the command that ran, not for another one with its jti."""
    with pytest.raises(Rejected) as caught:
        Answer.repeated((request().digest, b"{}"), request(b"a.b.d"))
    assert caught.value.code is Code.IDEMPOTENCY_CONFLICT
