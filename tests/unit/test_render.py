"""What leaves: the two shapes of a reply, updates and events, signed and no larger than the broker takes (wire §4)."""

import json
from typing import Any

import pytest

from setpoint_contracts import Code, Reply, verify_detached
from setpoint_contracts.config import ConfigDocument
from setpointd.errors import Rejected, VersionConflict
from setpointd.messages import Outbound
from setpointd.packets import publish_bytes
from setpointd.records import Document, Identity, StoredReply
from setpointd.render import Renderer, Result, retained_payload, wire
from tests.calls import KEYS, new_runtime
from tests.unit.claims import KEY, OWN, TOPICS, address, claims

AT = "2026-11-23T10:00:00.123Z"
IDENTITY = Identity("store", epoch=3, revision=812, instance=None)
STT = Document("stt", version=15, revision=90, epoch=3, updated_at=AT, updated_by="bob", config={"a": 1})
GONE = STT._replace(config=None)
LARGE = STT._replace(config={"text": "x" * 10_000})
TO = address(claims(), correlation_data=b"c")
LIMIT = 4096


def renderer(max_packet_bytes: int | None = None) -> Renderer:
    """Make a renderer for a broker that takes packets of so many bytes, or any."""
    return Renderer(KEYS, TOPICS, new_runtime(max_packet_bytes=max_packet_bytes))


def body_of(message: Outbound | None) -> dict[str, Any]:
    """Read what is sent; it must fit the broker of the tests."""
    assert message is not None
    assert publish_bytes(message) <= LIMIT
    body: dict[str, Any] = json.loads(message.payload)
    return body


def test_a_result() -> None:
    """A reply with a result has exactly the members of the wire, in their order, as compact UTF-8."""
    reply = renderer().reply(TO, Result(name="é"), IDENTITY, AT)
    text = f'{{"id":"j-1","command":"get","ok":true,"result":{{"name":"é"}},"revision":812,"epoch":3,"ts":"{AT}"}}'
    assert (reply.code, reply.payload) == ("ok", text.encode())
    assert Reply.model_validate_json(reply.payload).result == {"name": "é"}


def test_a_reply_is_sent_where_and_as_its_caller_can_check_it() -> None:
    """To an HS256 token with its own secret, else with the daemon's key; the correlation data goes along."""
    message = renderer().reply(TO, Result(), IDENTITY, AT).message
    assert message is not None
    assert message.jws is not None
    assert (message.topic, message.correlation_data, message.retain) == (OWN + "j-1", b"c", False)
    assert verify_detached(message.payload, message.topic, message.jws, "tok_a", KEY)
    message = renderer().reply(address(claims(), KEYS.signing), Result(), IDENTITY, AT).message
    assert message is not None
    assert message.jws is not None
    assert KEYS.made(message.topic, message.payload, message.jws)


def test_who_wants_no_reply_gets_none() -> None:
    """The reply is made all the same: it may have to be stored."""
    reply = renderer().reply(address(claims(reply_to=None)), Result(), IDENTITY, AT)
    assert reply.message is None
    assert json.loads(reply.payload)["ok"]


@pytest.mark.parametrize("code", Code)
def test_an_error_says_whether_it_may_be_sent_again(code: Code) -> None:
    """An error has its code, whether it is final, and details only if there are any."""
    reply = renderer().reply(TO, Rejected(code, "no"), IDENTITY, AT)
    body = json.loads(reply.payload)
    assert reply.code == code
    assert body["error"] == {"code": code, "message": "no", "retryable": code.retryable}
    assert {"ok", "result"} & body.keys() == {"ok"}
    assert Reply.model_validate(body).error is not None


def test_a_version_conflict_carries_the_current_document() -> None:
    """A writer that lost learns at once where the service is."""
    payload = renderer().reply(TO, VersionConflict("stt", 14, STT), IDENTITY, AT).payload
    reply = Reply.model_validate_json(payload)
    assert reply.error is not None
    assert reply.error.details == {"current": wire(STT)}
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
    reply = renderer().reply(address(b"{}"), Rejected(Code.BAD_REQUEST, "no"), IDENTITY, AT)
    assert Reply.model_validate_json(reply.payload).id is None


def test_a_document_on_the_wire() -> None:
    """A tombstone says so and has no config; results and lists of them are rendered through and through."""
    assert wire(STT) == {**STT.head(), "config": {"a": 1}}
    assert wire(GONE) == {**GONE.head(), "deleted": True}
    ConfigDocument.model_validate(wire(STT))
    assert wire(Result(STT, changed=True)) == {**wire(STT), "changed": True}
    assert wire(Result(results=[Result(STT), GONE])) == {"results": [wire(STT), wire(GONE)]}


def test_an_update_is_the_document_retained_and_signed() -> None:
    """Of a tombstone too; where nothing is to be retained the topic is cleared, unsigned."""
    for document in (STT, GONE):
        message = renderer().update("stt", document)
        assert (message.topic, message.payload) == (TOPICS.updated("stt"), retained_payload(document))
        assert message.retain
        assert message.jws is not None
        assert KEYS.made(message.topic, message.payload, message.jws)
    assert renderer().update("stt", None) == Outbound(TOPICS.updated("stt"), b"", retain=True)


def test_a_schema_is_its_text_retained_and_signed() -> None:
    """Where there is none the topic is cleared, unsigned; one that the broker would not take is refused."""
    text = '{"title":"é"}'
    message = renderer().schema("stt", text)
    assert (message.topic, message.payload, message.retain) == (TOPICS.schema("stt"), text.encode(), True)
    assert message.jws is not None
    assert KEYS.made(message.topic, message.payload, message.jws)
    assert renderer().schema("stt", None) == Outbound(TOPICS.schema("stt"), b"", retain=True)
    renderer(LIMIT).check_schema("stt", text)
    with pytest.raises(Rejected) as caught:
        renderer(LIMIT).check_schema("stt", "x" * LIMIT)
    assert (caught.value.code, caught.value.details["max_bytes"]) == (Code.TOO_LARGE, LIMIT)


def test_a_stored_reply_is_repeated_byte_for_byte() -> None:
    """The same command gets the very bytes it got before, wherever it wants them now."""
    stored = StoredReply(b"digest", b'{"stored": 1}')
    reply = renderer().repeated(TO, stored, IDENTITY, AT)
    assert (reply.code, reply.payload) == ("repeated", stored.payload)
    assert reply.message is not None
    assert reply.message.payload == stored.payload


@pytest.mark.parametrize(
    ("outcome", "applied", "told"),
    [
        (Result(LARGE), None, {}),
        (Result(LARGE), True, {"applied": True}),
        (Result(LARGE, dry_run=True), False, {"applied": False}),
        (VersionConflict("stt", 1, LARGE), False, {"applied": False}),
        (VersionConflict("stt", 1, LARGE), None, {}),
    ],
    ids=["a read", "a mutation", "a dry run", "a refused mutation", "a refused read"],
)
def test_a_reply_over_the_brokers_limit(
    outcome: Result | Rejected,
    applied: bool | None,  # noqa: FBT001 - a column of the table
    told: dict[str, bool],
) -> None:
    """It becomes `too_large`, with both sizes, and says of a mutation whether it took effect."""
    reply = renderer(LIMIT).reply(TO, outcome, IDENTITY, AT, applied=applied)
    whole = renderer().reply(TO, outcome, IDENTITY, AT, applied=applied).message
    assert whole is not None
    body = body_of(reply.message)
    assert (reply.code, body["error"]["code"]) == ("too_large", "too_large")
    assert body["error"]["details"] == {"bytes": publish_bytes(whole), "max_bytes": LIMIT, **told}
    assert ("took effect" in body["error"]["message"]) == bool(applied)
    assert reply.message is not None
    assert reply.payload == reply.message.payload


def test_the_limit_is_the_last_size_that_fits() -> None:
    """A reply of exactly so many bytes is sent as it is; one byte less room, and it is not."""
    whole = renderer().reply(TO, Result(STT), IDENTITY, AT)
    assert whole.message is not None
    size = publish_bytes(whole.message)
    assert renderer(size).reply(TO, Result(STT), IDENTITY, AT) == whole
    assert renderer(size - 1).reply(TO, Result(STT), IDENTITY, AT).code == "too_large"


def test_without_a_reply_nothing_is_too_large() -> None:
    """Who wants no reply has its result stored whole."""
    reply = renderer(LIMIT).reply(address(claims(reply_to=None)), Result(LARGE), IDENTITY, AT, applied=True)
    assert (reply.code, reply.message) == ("ok", None)


@pytest.mark.parametrize("ok", [True, False])
def test_a_stored_reply_over_the_limit_of_another_broker(ok: bool) -> None:  # noqa: FBT001 - the parameter of the test
    """It says whether the command took effect; what is stored stays, numbers of before the rule on numbers included."""
    stored = StoredReply(b"digest", json.dumps({"ok": ok, "n": 2**70, "text": "x" * 10_000}).encode())
    reply = renderer(LIMIT).repeated(TO, stored, IDENTITY, AT)
    assert body_of(reply.message)["error"]["details"]["applied"] is ok


def test_a_document_over_the_limit_is_refused() -> None:
    """When it is written, and when it is to be published: with both sizes."""
    assert renderer().update("stt", LARGE)
    for refuse in (
        lambda: renderer(LIMIT).update("stt", LARGE),
        lambda: renderer(LIMIT).check_update(LARGE, 10_000),
    ):
        with pytest.raises(Rejected) as caught:
            refuse()
        assert caught.value.code is Code.TOO_LARGE
        assert caught.value.details == {"bytes": publish_bytes(renderer().update("stt", LARGE)), "max_bytes": LIMIT}


def test_a_document_is_refused_exactly_when_its_update_does_not_fit() -> None:
    """Whatever its size: what is written can be published, and what can be published is written."""
    for size in range(LIMIT - 700, LIMIT, 7):
        document = STT._replace(config={"a": "x" * size})
        fits = publish_bytes(renderer().update("stt", document)) <= LIMIT
        try:
            renderer(LIMIT).check_update(document, len(json.dumps(document.config)))
        except Rejected:
            assert not fits
        else:
            assert fits


def test_an_event_over_the_limit_loses_its_details() -> None:
    """The store has them; what happened, to whom and by whom is published all the same."""
    event = {"action": "update_config", "user": "alice", "timestamp": AT, "details": {"keys": ["k" * 100] * 100}}
    whole = renderer().event(event)
    assert json.loads(whole.payload) == event
    assert (whole.topic, whole.jws, whole.retain) == (TOPICS.audit("update_config"), None, False)
    cut = body_of(renderer(LIMIT).event(event))
    assert cut == {**event, "details": {"omitted": {"bytes": publish_bytes(whole), "max_bytes": LIMIT}}}
