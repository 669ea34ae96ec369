"""History, differences and restores on a real store, against every state that it ever had, kept as plain dicts."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from setpoint_contracts import COMMANDS, strictjson
from setpoint_contracts.difference import differences, merge_patch
from setpointd.errors import Rejected
from setpointd.records import Stamp
from setpointd.render import wire
from setpointd.store import Snapshot, Tx
from setpointd.store.files import open_writer
from setpointd.store.keys_changed import key_changes
from setpointd.table import TABLE
from tests.calls import make_call
from tests.stores import new_store

CALL = make_call()
SERVICES = ("stt", "tts", "vision")
Config = dict[str, Any] | None
Command = tuple[str, dict[str, Any]]

SERVICE = st.sampled_from(SERVICES)
CONFIG = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.sampled_from([None, True, 1, "é", {"x": 1}, {"x": None}, [1]]), max_size=3
)
SET = st.builds(lambda service, config: ("set", {"service": service, "config": config}), SERVICE, CONFIG)
PATCH = st.builds(lambda service, config: ("patch", {"service": service, "patch": config}), SERVICE, CONFIG)
DELETE = st.builds(lambda service: ("delete", {"service": service}), SERVICE)
APPLY = st.lists(SET | PATCH | DELETE, min_size=1, max_size=3, unique_by=lambda step: step[1]["service"]).map(
    lambda steps: ("apply", {"changes": [{"op": op, **params} for op, params in steps]})
)
NAMED = st.lists(SERVICE, min_size=1, max_size=3, unique=True)
RESTORE = st.builds(
    lambda services, revision: (
        "history/restore",
        {"revision": revision, **({"services": services} if services else {})},
    ),
    NAMED | st.none(),
    st.integers(0, 12),
)
RESTORE_VERSION = st.builds(
    lambda service, version: ("history/restore", {"services": [service], "version": version}),
    SERVICE,
    st.integers(1, 6),
)
STEPS: st.SearchStrategy[list[Command]] = st.lists(
    SET | PATCH | DELETE | APPLY | RESTORE | RESTORE_VERSION, min_size=1, max_size=14
)


class Model:
    """What every service was at every revision (None: not there), its versions, and every change of a key."""

    def __init__(self) -> None:
        self.states: list[dict[str, Config]] = [dict.fromkeys(SERVICES)]
        self.versions: dict[str, list[tuple[int, Config]]] = {service: [] for service in SERVICES}
        self.entries: list[dict[str, Any]] = []

    def run(self, command: str, params: dict[str, Any]) -> str:
        """Carry a command out, all of it or nothing, and name its outcome: `ok` or an error code."""
        before = dict(self.states[-1])
        wanted: dict[str, Config] = {}
        steps = params["changes"] if command == "apply" else [{"op": command, **params}]
        for step in steps:
            outcome = self._restore(params, wanted) if command == "history/restore" else self._step(step, wanted)
            if outcome != "ok":
                return outcome
        changed = [service for service, config in wanted.items() if not same(before[service], config)]
        if changed:
            self.states.append(before | wanted)
        for service in changed:
            self.versions[service].append((len(self.states) - 1, wanted[service]))
            version = {"revision": len(self.states) - 1, "service": service, "version": len(self.versions[service])}
            for change in key_changes(before[service] or {}, wanted[service] or {}):
                values = {
                    "old": (before[service] or {}).get(change.key),
                    "new": (wanted[service] or {}).get(change.key),
                }
                left_out = {"add": "old", "remove": "new"}.get(change.op)
                told = {side: value for side, value in values.items() if side != left_out}
                self.entries.insert(0, {**version, "key": change.key, "op": change.op, **told})
        return "ok"

    def _step(self, step: dict[str, Any], wanted: dict[str, Config]) -> str:
        current = self.states[-1][step["service"]]
        if step["op"] != "set" and current is None:
            return "not_found"
        new = {"set": step.get("config"), "patch": merge_patch(current, step.get("patch", {})), "delete": None}
        wanted[step["service"]] = new[step["op"]]
        return "ok"

    def _restore(self, params: dict[str, Any], wanted: dict[str, Config]) -> str:
        revision = params.get("revision", 0)
        if revision >= len(self.states):
            return "bad_request"
        known = [service for service in SERVICES if self.versions[service]]
        for service in sorted(params.get("services", known)):
            if service not in known:
                return "not_found"
            if "version" not in params:
                wanted[service] = self.states[revision][service]
            elif params["version"] > len(self.versions[service]):
                return "not_found"
            else:
                wanted[service] = self.versions[service][params["version"] - 1][1]
        return "ok"


def same(one: Config, other: Config) -> bool:
    """Whether two configs are the same JSON."""
    return strictjson.canonical(one) == strictjson.canonical(other)


def ask(store: Snapshot, command: str, **params: Any) -> dict[str, Any]:
    """Run a command's handler and check its result against its model."""
    parsed = COMMANDS[command].model_validate(params)
    result: dict[str, Any] = wire(TABLE[command].handler(store, CALL, parsed))
    COMMANDS[command].result.model_validate(result)
    return result


def run(tx: Tx, command: str, params: dict[str, Any]) -> str:
    """Run a write, and name its outcome as the model does."""
    try:
        with tx.savepoint():
            ask(tx, command, **params)
    except Rejected as refusal:
        return refusal.code
    return "ok"


def pages(store: Snapshot, command: str, members: str, **params: Any) -> list[dict[str, Any]]:
    """Read all of a list, two at a time."""
    found: list[dict[str, Any]] = []
    following: dict[str, Any] = {}
    while following.get("before", 1) is not None:
        page = ask(store, command, limit=2, **params, **following)
        found += page[members]
        following = {"before": page["next"]}
    return found


def state(store: Snapshot, revision: int | None = None) -> dict[str, Config]:
    """Read what every service is, or was at a revision."""
    reads = store.config
    documents = {
        service: reads.current(service) if revision is None else reads.at_revision(service, revision)
        for service in SERVICES
    }
    return {service: None if document is None else document.config for service, document in documents.items()}


def check_reads(store: Snapshot, model: Model) -> None:
    """Compare history, versions, states and differences with the model."""
    entries = pages(store, "history/query", "entries")
    assert [{name: entry[name] for name in entry.keys() & KEPT} for entry in entries] == model.entries
    for service, versions in model.versions.items():
        assert pages(store, "history/query", "entries", service=service) == [
            entry for entry in entries if entry["service"] == service
        ]
        if not versions:
            continue
        assert [
            (version["version"], version["revision"], version.get("deleted", False))
            for version in pages(store, "history/versions", "versions", service=service)
        ] == [(number, made, config is None) for number, (made, config) in enumerate(versions, 1)][::-1]
        last = len(model.states) - 1
        for old, new in ((0, last), (last, 0), (last // 2, last)):
            found = ask(store, "diff", service=service, **{"from": {"revision": old}, "to": {"revision": new}})
            before, after = (model.states[revision][service] or {} for revision in (old, new))
            assert found["diff"] == differences(before, after)
            assert found["from"]["version"] == sum(made <= old for made, _ in versions)
    for revision, held in enumerate(model.states):
        assert state(store, revision) == held


KEPT = {"revision", "service", "version", "key", "op", "old", "new"}


def check_restores(db: Database, model: Model) -> None:
    """Go back to each revision there was; a dry run tells the same, and then back again undoes it."""
    for revision, held in enumerate(model.states):
        db.conn.execute("BEGIN")
        tx = Tx(db, Stamp(CALL.at, "alice", "r-back"))
        there = ask(tx, "history/restore", revision=revision)
        assert state(tx) == held
        assert {change["service"] for change in there["results"]} == {
            service for service in SERVICES if not same(held[service], model.states[-1][service])
        }
        again = Tx(db, Stamp(CALL.at, "alice", "r-forth"))
        ask(again, "history/restore", revision=len(model.states) - 1)
        assert state(again) == model.states[-1]
        db.conn.execute("ROLLBACK")


@given(STEPS)
@settings(max_examples=60)
def test_the_past_is_what_it_was(steps: list[Command]) -> None:
    """After any writes and restores: history, versions, differences, and every earlier state, read and restored."""
    with tempfile.TemporaryDirectory() as directory:
        new_store(Path(directory), Stamp(CALL.at, "setpointd"))
        db = open_writer(Path(directory))
        model = Model()
        for number, (command, params) in enumerate(steps):
            with db.atomic():
                assert run(Tx(db, Stamp(CALL.at, "alice", f"r-{number}")), command, params) == model.run(
                    command, params
                )
            assert state(Snapshot(db)) == model.states[-1]
        check_reads(Snapshot(db), model)
        check_restores(db, model)
        db.close()
