"""The handlers on a real store, against a model that a dozen lines of Python hold."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from setpoint_contracts import COMMANDS, strictjson
from setpoint_contracts.difference import merge_patch
from setpointd.errors import Rejected
from setpointd.handlers.epoch import make_truth
from setpointd.records import Sighting, Stamp
from setpointd.render import wire
from setpointd.store import Snapshot, Tx
from setpointd.store.files import open_writer
from setpointd.table import TABLE
from tests.calls import lend, make_call, new_runtime
from tests.limits import LIMITS
from tests.stores import new_store

MAX_CONFIG_BYTES = 200
CALL = make_call(lend(new_runtime(LIMITS.model_copy(update={"max_config_bytes": MAX_CONFIG_BYTES}))))

KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from([None, True, 1, 1.0, "é", [1], [True], {"x": 1}, {"x": 1.0, "y": None}, "x" * 150])
CONFIGS = st.dictionaries(KEYS, VALUES, max_size=3)
EXPECTED = st.sampled_from([None, None, 0, 1, 2, 3, 4])
OPS = st.sampled_from(["set", "patch", "delete", "advance"])
STEPS = st.tuples(OPS, st.sampled_from(["stt", "tts"]), CONFIGS, EXPECTED)

Config = dict[str, Any] | None


class Model:
    """What the store must hold: every version of every service, and how many revisions there were."""

    def __init__(self) -> None:
        self.versions: dict[str, list[tuple[int, Config]]] = {"stt": [], "tts": []}
        self.revision = 0

    def run(self, op: str, service: str, config: dict[str, Any], expected: int | None) -> str:
        """Carry a command out, and name its outcome: `changed`, `unchanged` or an error code."""
        if op == "advance":
            self.revision += 1
            for kept in filter(None, self.versions.values()):
                kept.append((self.revision, kept[-1][1]))
            return "changed"
        versions = self.versions[service]
        current = versions[-1][1] if versions else None
        fits = expected in {None, len(versions)} or (expected == 0 and current is None)
        if not fits:
            return "version_conflict"
        if op != "set" and current is None:
            return "not_found"
        new = {"set": config, "patch": merge_patch(current, config), "delete": None}[op]
        if new is not None and len(strictjson.dumps(new).encode()) > MAX_CONFIG_BYTES:
            return "too_large"
        if new is not None and current is not None and strictjson.canonical(new) == strictjson.canonical(current):
            return "unchanged"
        self.revision += 1
        versions.append((self.revision, new))
        return "changed"


def run(tx: Tx, op: str, service: str, config: dict[str, Any], expected: int | None) -> str:
    """Run the command's handler, check its result, and name its outcome as the model does."""
    if op == "advance":
        make_truth(tx, Sighting(), CALL.now)
        return "changed"
    named = {"set": {"config": config}, "patch": {"patch": config}, "delete": {}}[op]
    command = COMMANDS[op].model_validate({"service": service, "expected_version": expected, **named})
    try:
        with tx.savepoint():
            result = wire(TABLE[op].handler(tx, CALL, command))
    except Rejected as refusal:
        return refusal.code
    COMMANDS[op].result.model_validate(result)
    return "changed" if result.get("changed", True) else "unchanged"


def keys_of(config: Config) -> dict[str, str]:
    """Give the keys of a config with their JSON."""
    return {key: strictjson.canonical(value) for key, value in (config or {}).items()}


def check(db: Database, model: Model) -> None:
    """Compare everything that can be read with the model."""
    snapshot = Snapshot(db)
    assert snapshot.identity.now().revision == model.revision
    for service, versions in model.versions.items():
        for number, (revision, config) in enumerate(versions, 1):
            document = snapshot.config.at_version(service, number)
            assert document is not None
            assert (document.revision, strictjson.dumps(document.config)) == (revision, strictjson.dumps(config))
        for revision in range(model.revision + 1):
            document = snapshot.config.at_revision(service, revision)
            upto = [number for number, (made, _) in enumerate(versions, 1) if made <= revision]
            assert (None if document is None else document.version) == (upto[-1] if upto else None)
        replayed: dict[str, str] = {}
        for row in db.conn.execute("SELECT * FROM config_history WHERE service = ? ORDER BY id", (service,)):
            assert replayed.pop(row["key"], None) == row["old_json"]
            if row["new_json"] is not None:
                replayed[row["key"]] = row["new_json"]
        kept = db.conn.execute("SELECT key, value_json FROM config_kv WHERE service = ?", (service,))
        assert replayed == keys_of(versions[-1][1] if versions else None) == dict(kept)
    newest = {service: versions[-1][1] for service, versions in model.versions.items() if versions}
    living = {service: config for service, config in newest.items() if config is not None}
    assert {document.service: document.config for document in snapshot.config.all()} == newest
    counted = {document.service: keys for document, keys in snapshot.config.services()}
    assert counted == {service: len(config) for service, config in living.items()}


@given(st.lists(STEPS, max_size=12))
@settings(max_examples=60)
def test_any_sequence_of_writes_gives_what_the_model_has(
    steps: list[tuple[str, str, dict[str, Any], int | None]],
) -> None:
    """Outcomes, versions, revisions, history and keys, after whatever was set, patched and deleted."""
    with tempfile.TemporaryDirectory() as directory:
        new_store(Path(directory), Stamp(CALL.at, "setpointd"))
        db = open_writer(Path(directory))
        model = Model()
        for number, (op, service, config, expected) in enumerate(steps):
            # Read as the wire reads it: 1.0 is 1.
            step = (op, service, strictjson.loads(strictjson.dumps(config).encode()), expected)
            with db.atomic():
                assert run(Tx(db, Stamp(CALL.at, "alice", f"r-{number}")), *step) == model.run(*step)
        check(db, model)
        events = [json.loads(row["details_json"]) for row in db.conn.execute("SELECT details_json FROM audit_log")]
        assert len(events) == model.revision
        db.close()
