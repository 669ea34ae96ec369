"""Profiles: what they name, what they cost, and the handlers against a model of plain dicts."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from setpoint_contracts import COMMANDS, strictjson
from setpoint_contracts.profiles import MAX_PROFILES
from setpointd.errors import Rejected, UnreadableError
from setpointd.handlers.epoch import make_truth
from setpointd.records import Sighting, Stamp
from setpointd.render import wire
from setpointd.store import Snapshot, Tx
from setpointd.store.files import open_writer
from setpointd.table import TABLE
from tests.calls import make_call
from tests.store.jobs import job, rows, write
from tests.stores import new_store

CALL = make_call()


def run(tx: Tx, op: str, **params: Any) -> dict[str, Any]:
    """Run a command's handler, and give its result as the wire has it, once its model has checked it."""
    with tx.savepoint():
        result: dict[str, Any] = wire(TABLE[op].handler(tx, CALL, COMMANDS[op].model_validate(params)))
    COMMANDS[op].result.model_validate(result)
    return result


def test_a_profile_names_versions_and_copies_nothing(db: Database) -> None:
    """What it holds is what the services were at then, whatever becomes of them, read from the versions themselves."""
    write(db, "stt", {"a": 1})
    write(db, "tts", {"b": 1})
    with job(db, at_s=5) as tx:
        tx.profiles.save("quiet", None, {"stt": 1, "tts": 1})
    write(db, "stt", {"a": 2})
    write(db, "tts", None)
    profiles = Snapshot(db).profiles
    assert (profiles.config("quiet", "stt"), profiles.config("quiet", "tts")) == ({"a": 1}, {"b": 1})
    assert (profiles.config("quiet", "x"), profiles.config("Quiet", "stt"), profiles.summary("Quiet")) == (None,) * 3
    assert rows(db, "SELECT * FROM profile_services") == [
        {"profile": "quiet", "service": "stt", "version": 1},
        {"profile": "quiet", "service": "tts", "version": 1},
    ]


def test_saving_again_replaces_the_whole_profile(db: Database) -> None:
    """Services and description are those of the last time; who made it first, and when, stays. Its events say both."""
    for service in ("stt", "tts", "vad"):
        write(db, service, {})
    with job(db, at_s=1, by="alice") as tx:
        tx.profiles.save("p", "first", {"stt": 1, "tts": 1})
    with job(db, at_s=2, by="bob") as tx:
        tx.profiles.save("p", None, {"vad": 1})
    summary = Snapshot(db).profiles.summary("p")
    assert summary == {
        "name": "p",
        "description": None,
        "services": 1,
        "revision": 3,
        "created_at": "2026-01-01T00:00:01.000Z",
        "created_by": "alice",
        "updated_at": "2026-01-01T00:00:02.000Z",
        "updated_by": "bob",
    }
    events = rows(db, "SELECT details_json, revision FROM audit_log WHERE action = 'save_profile' ORDER BY id")
    assert events == [
        {"details_json": '{"profile":"p","services":2,"overwritten":false}', "revision": None},
        {"details_json": '{"profile":"p","services":1,"overwritten":true}', "revision": None},
    ]


def test_deleting_leaves_no_row(db: Database) -> None:
    """The profile is gone, its neighbour is not, nor any version."""
    write(db, "stt", {})
    with job(db) as tx:
        tx.profiles.save("a", None, {"stt": 1})
        tx.profiles.save("a%", None, {"stt": 1})
        tx.profiles.delete("a%")
    assert [row["name"] for row in Snapshot(db).profiles.all()] == ["a"]
    assert [row["profile"] for row in rows(db, "SELECT * FROM profile_services")] == ["a"]
    assert len(rows(db, "SELECT * FROM config_versions")) == 1


def test_all_can_be_told_as_if_there_were_few_services(db: Database) -> None:
    """In the order of code points, counting those services only, without the profiles that hold none of them."""
    for service in ("stt", "tts", "vad"):
        write(db, service, {})
    with job(db) as tx:
        for name in ("\N{CRESCENT MOON}", "b", "\N{FULLWIDTH TILDE}", "a"):  # UTF-16 has the moon before the tilde
            tx.profiles.save(name, None, {"stt": 1, "tts": 1})
        tx.profiles.save("c", None, {"vad": 1})
    profiles = Snapshot(db).profiles
    assert sorted(profiles.services()) == ["stt", "tts", "vad"]
    assert [(row["name"], row["services"]) for row in profiles.all()] == [
        ("a", 2),
        ("b", 2),
        ("c", 1),
        ("\N{FULLWIDTH TILDE}", 2),
        ("\N{CRESCENT MOON}", 2),
    ]
    assert [(row["name"], row["services"]) for row in profiles.all(["tts", "vad"])][:3] == [
        ("a", 1),
        ("b", 1),
        ("c", 1),
    ]
    assert [row["name"] for row in profiles.all(["vad"])] == ["c"]
    assert profiles.all([]) == []


@pytest.mark.parametrize("damage", ["DELETE FROM config_versions", "UPDATE config_versions SET config_json = NULL"])
def test_a_version_that_is_gone_is_not_taken_for_a_deletion(damage: str, db: Database) -> None:
    """A profile whose version lost its config can be neither read nor loaded, and the service stays as it is."""
    write(db, "stt", {"a": 1})
    with job(db) as tx:
        tx.profiles.save("p", None, {"stt": 1})
    write(db, "stt", {"a": 2})
    db.conn.execute(f"{damage} WHERE version = 1")
    db.conn.commit()
    with pytest.raises(UnreadableError), job(db) as tx:
        run(tx, "profile/load", name="p", exact=True)
    current = Snapshot(db).config.current("stt")
    assert current is not None
    assert (current.version, current.config) == (2, {"a": 2})


def test_which_versions_are_needed_is_found_through_an_index(db: Database) -> None:
    """Pruning asks that for every version that it looks at."""
    asked = "EXPLAIN QUERY PLAN SELECT 1 FROM profile_services WHERE service = 'stt' AND version = 1"
    (plan,) = rows(db, asked)
    assert "profile_services_version (service=? AND version=?)" in plan["detail"]


def test_a_profile_is_small(db: Database) -> None:
    """A service in a profile costs less than 100 bytes, whatever its config; saving it costs no revision."""
    for number in range(1000):
        write(db, f"service-{number:04}", {"text": "x" * 1000})
    revision, before = Snapshot(db).identity.now().revision, Snapshot(db).identity.store_bytes()
    with job(db) as tx:
        for number in range(10):
            tx.profiles.save(f"profile {number}", "how it was", tx.config.versions())
    snapshot = Snapshot(db)
    assert snapshot.identity.store_bytes() - before < 100 * 1000 * 10
    assert snapshot.identity.now().revision == revision


def test_there_are_so_many_profiles_at_most(db: Database) -> None:
    """One more is refused; one that is there may be saved over, and another in the place of a deleted one."""
    write(db, "stt", {})
    with job(db) as tx:
        for number in range(MAX_PROFILES):
            run(tx, "profile/save", name=f"p{number}")
        with pytest.raises(Rejected) as caught:
            run(tx, "profile/save", name="another")
        details = caught.value.details
        (misfit,) = details.pop("errors")
        assert (caught.value.code, misfit["field"], misfit["type"]) == ("bad_request", "name", "too_many_profiles")
        assert details == {"profiles": MAX_PROFILES, "max_profiles": MAX_PROFILES}
        run(tx, "profile/save", name="p7", overwrite=True)
        run(tx, "profile/delete", name="p7")
        run(tx, "profile/save", name="another")
        assert tx.profiles.count() == len(run(tx, "profile/list")["profiles"]) == MAX_PROFILES


SERVICES = st.sampled_from(["stt", "tts", "vad"])
NAMES = st.sampled_from(["a", "b"])
CONFIGS = st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from([None, True, 1, "é", {"x": 1}]), max_size=2)
CHOSEN = st.none() | st.sets(SERVICES, min_size=1).map(sorted)
STEPS = st.one_of(
    st.tuples(st.just("set"), SERVICES, CONFIGS),
    st.tuples(st.just("delete"), SERVICES),
    st.tuples(st.just("advance")),
    st.tuples(st.just("profile/save"), NAMES, CHOSEN, st.booleans()),
    st.tuples(st.just("profile/delete"), NAMES),
    st.tuples(st.just("profile/load"), NAMES, st.booleans()),
)

Configs = dict[str, dict[str, Any] | None]


class Model:
    """What the store must hold: each service's config (None: deleted) and version, and what each profile holds."""

    def __init__(self) -> None:
        self.now: Configs = {}
        self.versions: dict[str, int] = {}
        self.revision = 0
        self.profiles: dict[str, Configs] = {}

    @property
    def living(self) -> Configs:
        """The configs that there are."""
        return {service: config for service, config in self.now.items() if config is not None}

    def become(self, wanted: Configs) -> list[tuple[str, int]]:
        """Bring services to configs in one revision: those that changed, with their new versions."""
        changed = [service for service in sorted(wanted) if not same(self.now.get(service), wanted[service])]
        for service in changed:
            self.now[service] = wanted[service]
            self.versions[service] = self.versions.get(service, 0) + 1
        self.revision += bool(changed)
        return [(service, self.versions[service]) for service in changed]

    def advance(self) -> int:
        """Give every service a new version of what it holds; the revision."""
        self.versions = {service: version + 1 for service, version in self.versions.items()}
        self.revision += 1
        return self.revision

    def save(self, name: str, chosen: list[str] | None, overwrite: bool) -> Any:  # noqa: FBT001 - a member of the step
        """Keep configs: how many, or the error."""
        living = self.living
        if not living or not living.keys() >= set(chosen or ()):
            return "not_found"
        if name in self.profiles and not overwrite:
            return "already_exists"
        self.profiles[name] = {service: living[service] for service in chosen or living}
        return len(self.profiles[name])

    def load(self, name: str, exact: bool) -> Any:  # noqa: FBT001 - a member of the step
        """Go back: which services changed and how many did not, or the error."""
        if name not in self.profiles:
            return "not_found"
        wanted = {**(dict.fromkeys(self.living) if exact else {}), **self.profiles[name]}
        changed = self.become(wanted)
        return changed, len(wanted) - len(changed)

    def run(self, op: str, *step: Any) -> Any:
        """Do a step: what came of it."""
        if op == "advance":
            return self.advance()
        if op == "set":
            return bool(self.become({step[0]: step[1]}))
        if op == "delete":
            return bool(self.become({step[0]: None})) or "not_found"
        if op == "profile/delete":
            return len(self.profiles.pop(step[0], ())) or "not_found"
        return self.save(*step) if op == "profile/save" else self.load(*step)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON."""
    return strictjson.canonical(one) == strictjson.canonical(other)


PARAMS = {
    "set": ("service", "config"),
    "delete": ("service",),
    "profile/save": ("name", "services", "overwrite"),
    "profile/delete": ("name",),
    "profile/load": ("name", "exact"),
}


def step_of(tx: Tx, op: str, *step: Any) -> Any:
    """Do a step with the handlers: what came of it, in the words of the model."""
    if op == "advance":
        return make_truth(tx, Sighting(), CALL.now).members["revision"]
    try:
        result = run(tx, op, **dict(zip(PARAMS[op], step, strict=True)))
    except Rejected as refusal:
        return refusal.code.value
    if op == "profile/load":
        return [(document["service"], document["version"]) for document in result["results"]], result["unchanged"]
    return result[{"set": "changed", "delete": "deleted"}.get(op, "services")]


@given(st.lists(STEPS, max_size=25))
@settings(max_examples=80)
def test_any_sequence_of_saves_and_loads_gives_what_the_model_has(steps: list[tuple[Any, ...]]) -> None:
    """Outcomes, configs, versions, revision and profiles, whatever was set, deleted and advanced in between."""
    with tempfile.TemporaryDirectory() as directory:
        new_store(Path(directory), Stamp(CALL.at, "setpointd"))
        db = open_writer(Path(directory))
        model = Model()
        for number, step in enumerate(steps):
            with db.atomic():
                assert step_of(Tx(db, Stamp(CALL.at, "alice", f"r-{number}")), *step) == model.run(*step)
            tx = Tx(db, Stamp(CALL.at, "alice"))
            now = {document.service: document for document in tx.config.all()}
            assert same({service: document.config for service, document in now.items()}, model.now)
            assert {service: document.version for service, document in now.items()} == model.versions
            assert tx.identity.now().revision == model.revision
            kept = {row["name"]: run(tx, "profile/get", name=row["name"]) for row in tx.profiles.all()}
            assert same({name: profile["snapshot"] for name, profile in kept.items()}, model.profiles)
        db.close()
