"""The checker itself: it must pass what is right, and refuse everything that is wrong, each by its own rule."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.crash.checker import check
from tests.crash.history import Document, History, Operation, Received, Update
from tests.crash.register import State, merge, run

Change = Callable[[History], None]


def document(version: int, revision: int, config: dict[str, Any] | None, by: str = "ann", epoch: int = 7) -> Document:
    """Make a version of `stt`; a tombstone when it has no config."""
    head = {"service": "stt", "version": version, "revision": revision, "epoch": epoch, "updated_by": by}
    return head | ({"deleted": True} if config is None else {"config": config})


V1 = document(1, 3, {"a": 1})
V2 = document(2, 4, {"a": 1, "b": 2})
V3 = document(3, 8, None)
V4 = document(4, 9, {"c": 3}, by="ben", epoch=20)


def ok(at: float, revision: int, result: Document, epoch: int = 7, **more: Any) -> Received:
    """Make a good reply."""
    reply = {"ok": True, "result": {**result, **more}, "revision": revision, "epoch": epoch}
    return Received(at, json.dumps(reply))


def error(at: float, revision: int, code: str, current: Document | None = None, epoch: int = 7) -> Received:
    """Make a refusal."""
    details = {} if current is None else {"current": current}
    body = {"code": code, "details": details}
    return Received(at, json.dumps({"ok": False, "error": body, "revision": revision, "epoch": epoch}))


def asked(name: str, invoked: float, params: dict[str, Any], *received: Received, by: str = "ann") -> Operation:
    """Make an operation on `stt`; its id is its command and a number."""
    command = name.split("-", maxsplit=1)[0]
    return Operation(name, by, command, "stt", params, invoked, sent=len(received), received=list(received))


def good() -> History:
    """One of each kind, two overlapping, one never answered that ran, one that did not, a restart before the last."""
    once = ok(5, 4, V2, changed=True)
    operations = [
        asked("get-0", 0, {}, error(1, 2, "not_found")),
        asked("set-1", 1, {"config": {"a": 1}, "expected_version": 0}, ok(3, 3, V1, changed=True)),
        asked(
            "set-2",
            2,
            {"config": {"z": 1}, "expected_version": 9},
            error(4, 2, "version_conflict", document(0, 0, None)),
        ),
        asked("patch-3", 4, {"patch": {"b": 2}, "expected_version": 1}, once, Received(30, once.payload)),
        asked("set-4", 4, {"config": {"x": 1}, "expected_version": 1}, error(6, 4, "version_conflict", V2)),
        asked("patch-5", 6, {"patch": {"b": 2}}, error(7, 4, "unavailable"), ok(8, 4, V2, changed=False)),
        asked("get-6", 6, {}, ok(8, 4, V2), error(12, 8, "not_found", V3)),  # sent twice, answered twice
        asked("delete-7", 9, {"expected_version": 2}),  # ran, and its reply was lost
        asked("delete-8", 9, {"expected_version": 1}),  # cannot have run
        asked("patch-9", 10, {"patch": {"b": 1}}, error(11, 8, "not_found", V3)),
        asked("get-10", 11, {"version": 1}, ok(12, 8, V1)),
        asked("get-11", 11, {"version": 4}, error(12, 8, "not_found")),
        asked("set-12", 13, {"config": {"c": 3}}, ok(15, 9, V4, epoch=20, changed=True), by="ben"),
        asked("get-13", 14, {}, error(15, 8, "not_found", V3)),  # overlaps with the one before, and came first
    ]
    updates = [
        Update(4, 1, live=True, document=V1),
        Update(11, 1, live=True, document=V3),  # version 2 was overtaken
        Update(12, 2, live=False, document=V1),  # from a broker that was killed
        Update(16, 2, live=True, document=V4),
    ]
    return History(operations, updates, {"stt": [V1, V2, V3, V4]}, {"stt": V4})


def answered(name: str, received: Received) -> Change:
    """Have an operation answered otherwise."""

    def change(history: History) -> None:
        find(history, name).received = [received]

    return change


def find(history: History, name: str) -> Operation:
    """Find an operation by its id."""
    return next(operation for operation in history.operations if operation.id == name)


def versions(*made: Document) -> Change:
    """Have other versions in the store in the end."""

    def change(history: History) -> None:
        history.versions["stt"] = list(made)

    return change


def also(*operations: Operation) -> Change:
    """Have further operations."""

    def change(history: History) -> None:
        history.operations += operations

    return change


def without(name: str) -> Change:
    """Have an operation that nobody invoked."""

    def change(history: History) -> None:
        history.operations.remove(find(history, name))

    return change


def both(*changes: Change) -> Change:
    """Make several changes."""

    def change(history: History) -> None:
        for one in changes:
            one(history)

    return change


def announced(*updates: Update) -> Change:
    """Have further updates."""

    def change(history: History) -> None:
        history.updates += updates

    return change


def retained(*kept: Document) -> Change:
    """Have something else retained in the end."""

    def change(history: History) -> None:
        history.retained = {"stt": kept[0]} if kept else {}

    return change


BAD: dict[str, tuple[str, Change]] = {
    "a version is missing": ("versions", versions(V1, V3, V4)),
    "a version is there twice": ("versions", versions(V1, V1, V2, V3, V4)),
    "versions are not in the order of revisions": ("versions", versions(V1, {**V2, "revision": 2}, V3, V4)),
    "the epoch goes down": ("versions", versions(V1, V2, V3, {**V4, "epoch": 6, "revision": 9})),
    "one revision stands for two": ("versions", versions(V1, {**V2, "revision": 3}, V3, V4)),
    "one revision stands for two services": (
        "versions",
        lambda history: history.versions.update(tts=[{**V1, "service": "tts"}]),
    ),
    "the store calls a version otherwise": ("versions", versions(V1, {**V2, "version": 7}, V3, V4)),
    "a compare-and-set won at another version": (
        "outcome",
        lambda history: find(history, "patch-3").params.update(expected_version=2),
    ),
    "expected absent, was there": (
        "outcome",
        lambda history: find(history, "patch-3").params.update(expected_version=0),
    ),
    "a conflict at the version that was named": (
        "outcome",
        answered("patch-5", error(8, 4, "version_conflict", V2)),
    ),
    "a conflict that carries an older state": ("outcome", answered("set-4", error(6, 4, "version_conflict", V1))),
    "a conflict that carries nothing": ("outcome", answered("set-4", error(6, 4, "version_conflict"))),
    "a conflict with a state that never was": (
        "outcome",
        answered("set-4", error(6, 4, "version_conflict", {**V2, "config": {"q": 1}})),
    ),
    "a read of a state that never was": ("outcome", answered("get-6", ok(8, 4, {**V2, "config": {"q": 1}}))),
    "a read that does not fit its own revision": ("outcome", answered("get-6", ok(8, 4, V1))),
    "a read of what is deleted": ("outcome", answered("get-13", ok(15, 8, V2))),
    "a read that finds nothing where something is": ("outcome", answered("get-6", error(8, 4, "not_found"))),
    "a read of a version before it was made": ("outcome", answered("get-11", ok(12, 8, V4))),
    "a read that misses a version that was made": ("outcome", answered("get-10", error(12, 8, "not_found"))),
    "a read of one version with the content of another": (
        "outcome",
        answered("get-10", ok(12, 8, {**V1, "config": {}})),
    ),
    "changed: false, though it changes": (
        "outcome",
        lambda history: find(history, "patch-5").params.update(patch={"b": 3}),
    ),
    "a version with other content than was asked for": (
        "outcome",
        lambda history: find(history, "patch-3").params.update(patch={"b": 9}),
    ),
    "a write that is answered at another revision than it made": (
        "outcome",
        answered("patch-3", ok(5, 5, V2, changed=True)),
    ),
    "a patch of what is deleted": ("outcome", answered("patch-9", ok(11, 8, V3, changed=False))),
    "an error that no register gives": ("outcome", answered("get-6", error(8, 4, "forbidden"))),
    "a refusal that names a revision that came after it was judged": (
        "place",
        answered("get-13", error(15, 9, "not_found", V3, epoch=20)),
    ),
    "a stale read": ("real time", answered("get-6", ok(8, 3, V1))),
    "an answered write is lost": ("real time", also(asked("get-20", 16, {}, error(17, 8, "not_found", V3)))),
    "a revision that never came": ("real time", answered("get-13", ok(15, 10, V4, epoch=20))),
    "a reply from the future": (
        "real time",
        both(without("get-13"), also(asked("get-20", 12, {}, ok(12.5, 9, V4, epoch=20)))),  # before set-12 was invoked
    ),
    "an update from the future": (
        "real time",
        both(without("get-13"), announced(Update(12.5, 2, live=True, document=V4))),
    ),
    "a read that is older than what was announced": ("real time", announced(Update(13.5, 2, live=True, document=V4))),
    "a reply of an epoch that was over": ("real time", also(asked("get-20", 16, {}, ok(17, 9, V4, epoch=19)))),
    "another reply to the same bytes": (
        "repeat",
        lambda history: find(history, "patch-3").received.append(ok(30, 4, V2, changed=True, diff=[])),
    ),
    "a second run, after the reply was lost, that conflicts with the first": (
        "repeat",
        lambda history: find(history, "patch-3").received.append(error(30, 4, "version_conflict", V2)),
    ),
    "two were told that they made one version": (
        "account",
        also(asked("patch-20", 4, {"patch": {"b": 2}}, ok(5, 4, V2, changed=True))),
    ),
    "a version that nobody made": ("account", without("delete-7")),
    "a version that nobody who is silent can have made": (
        "account",
        lambda history: find(history, "delete-7").params.update(expected_version=1),
    ),
    "a silent command that would have made something else": (
        "account",
        both(without("delete-7"), also(asked("set-7", 9, {"config": {"q": 1}}))),
    ),
    "a silent command that was sent only later": (
        "account",
        lambda history: setattr(find(history, "delete-7"), "invoked", 14),
    ),
    "a version in another's name": ("account", lambda history: setattr(find(history, "set-12"), "principal", "ann")),
    "a version that a caller was told of and that is gone": ("account", versions(V1, V2, V3)),
    "an update that the store does not have": (
        "update",
        announced(Update(12, 1, live=True, document={**V3, "updated_by": "eve"})),
    ),
    "an update before anybody asked for it": ("update", announced(Update(0.5, 1, live=True, document=V1))),
    "updates out of order": ("update", announced(Update(12, 1, live=True, document=V2))),
    "an older version is retained in the end": ("retained", retained(V3)),
    "nothing is retained in the end": ("retained", retained()),
}


def test_a_good_history_passes() -> None:
    """One in which all that may happen does: overlaps, lost replies, repetitions, a restart."""
    assert check(good()) == []


@pytest.mark.parametrize("gone", [True, False])
def test_of_a_deleted_service_nothing_or_its_tombstone_is_retained(gone: bool) -> None:  # noqa: FBT001 - parametrised
    """Either way is right: a tombstone is cleared after some days."""
    history = good()
    without("set-12")(history)
    versions(V1, V2, V3)(history)
    history.updates.pop()
    retained(*[] if gone else [V3])(history)
    assert check(history) == []


@pytest.mark.parametrize(("rule", "change"), BAD.values(), ids=BAD.keys())
def test_a_bad_history_is_refused(rule: str, change: Change) -> None:
    """Each single wrong is found, under the name of the rule that it breaks."""
    history = good()
    change(history)
    assert rule in {violation.rule for violation in check(history)}


def test_silent_commands_share_the_versions_out() -> None:
    """Two that were never answered and two versions, where the first could have made either: both are accounted for."""
    history = History(
        [
            asked("set-1", 0, {"config": {"a": 1}}, ok(1, 1, document(1, 1, {"a": 1}), changed=True)),
            asked("set-2", 2, {"config": {"a": 2}}),
            asked("set-3", 2, {"config": {"a": 2}, "expected_version": 1}),
            asked("set-4", 2, {"config": {"a": 3}}),
        ],
        versions={"stt": [document(n, n, {"a": a}) for n, a in ((1, 1), (2, 2), (3, 3), (4, 2))]},
        retained={"stt": document(4, 4, {"a": 2})},
    )
    assert check(history) == []
    history.operations.pop(1)
    assert [violation.rule for violation in check(history)] == ["account"]


def test_the_register() -> None:
    """What the wire says of expected versions, of deleted services, and of merge patches (RFC 7396, appendix A)."""
    absent, deleted, there = State(0, None), State(2, None), State(3, {"a": {"b": 1}})
    new: dict[str, Any] = {"config": {"c": 1}}
    for before, expected, code in (
        (absent, 0, "ok"),
        (absent, 1, "version_conflict"),
        (deleted, 0, "ok"),
        (deleted, 2, "ok"),
        (deleted, 1, "version_conflict"),
        (there, 3, "ok"),
        (there, 0, "version_conflict"),
        (there, None, "ok"),
    ):
        outcome = run("set", {**new, "expected_version": expected}, before)
        assert outcome.code == code
        assert outcome.after == (State(before.version + 1, {"c": 1}) if code == "ok" else before)
    assert run("delete", {}, deleted).code == run("patch", {"patch": {}}, absent).code == "not_found"
    assert run("delete", {}, there).after == State(4, None)
    assert not run("patch", {"patch": {"x": None}}, there).changed
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": {"e": None}}}) == {"a": {"c": 2, "d": {}}}
