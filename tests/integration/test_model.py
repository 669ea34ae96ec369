"""Every mutating command, in any order and over restarts, against a model that plain dicts hold.

Signed commands go through the real pipeline into a real store; only the broker is left out, for the number of runs.
"""

import asyncio
import copy
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from setpoint_contracts import Role, Token, sign_command, strictjson
from setpointd.auth import Keyring
from setpointd.difference import differences, merge_patch
from setpointd.messages import Inbound
from setpointd.metrics import Metrics
from setpointd.pipeline import Pipeline
from setpointd.records import Stamp
from setpointd.render import Renderer
from setpointd.store import Store
from setpointd.store.files import create
from tests.calls import KEYS, NOW, lend, new_runtime
from tests.unit.claims import TOPICS

ALICE = Token.new("HS256", "tok_a", "alice", Role.ADMIN)
SERVICES = ["nlu", "stt", "tts"]
PROFILES = ["day", "a/b 🌙 'n\" %"]
NUMBERS = {"properties": {"n": {"type": "integer"}}}
"""The one schema of this test: n is an integer, or not there."""

Config = dict[str, Any] | None
Step = tuple[str, dict[str, Any]]

services = st.sampled_from(SERVICES)
configs = st.dictionaries(
    st.sampled_from(["a", "b", "n"]), st.sampled_from([None, True, 1, 1.0, "é", [1], {"x": 1}, {"x": None}]), max_size=3
)
expected = st.sampled_from([{}, {}, {"expected_version": 0}, {"expected_version": 1}, {"expected_version": 3}])
subsets: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}), st.lists(services, min_size=1, unique=True).map(lambda some: {"services": some})
)
revisions = st.integers(0, 12).map(lambda revision: {"revision": revision})
dry = st.sampled_from([{}, {}, {}, {"dry_run": True}])
names = st.sampled_from(PROFILES).map(lambda name: {"name": name})


def step(command: str, *parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Step]:
    """Draw a command whose parameters are put together from parts."""
    return st.tuples(
        st.just(command), st.tuples(*parts).map(lambda some: {k: v for one in some for k, v in one.items()})
    )


def the(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw one parameter."""
    return values.map(lambda value: {name: value})


changes = st.lists(
    st.tuples(
        st.one_of(
            configs.map(lambda config: {"op": "set", "config": config}),
            configs.map(lambda config: {"op": "patch", "patch": config}),
            st.just({"op": "delete"}),
        ),
        the("service", services),
        expected,
    ).map(lambda parts: parts[0] | parts[1] | parts[2]),
    min_size=1,
    max_size=3,
    unique_by=lambda change: change["service"],
)
STEPS = st.one_of(
    step("set", the("service", services), the("config", configs), expected, dry),
    step("set", the("service", services), the("config", configs), expected),
    step("patch", the("service", services), the("patch", configs), expected, dry),
    step("delete", the("service", services), expected, dry),
    step("apply", the("changes", changes), dry),
    step("history/restore", subsets, revisions, dry),
    step("profile/save", names, subsets, st.sampled_from([{}, {"overwrite": True}])),
    step("profile/load", names, st.sampled_from([{}, {"exact": True}]), dry),
    step("profile/delete", names),
    step("schema/set", the("service", services), st.just({"schema": NUMBERS}), st.sampled_from([{}, {"force": True}])),
    step("schema/delete", the("service", services)),
    st.just(("restart", {})),
)


class Refused(Exception):  # noqa: N818 - an outcome, as it is to the daemon
    """The model says that a command is refused with this code."""


class Model:
    """Every version of every service as (revision, config), profiles as configs, and who has the schema."""

    def __init__(self) -> None:
        self.versions: dict[str, list[tuple[int, Config]]] = {}
        self.profiles: dict[str, dict[str, dict[str, Any]]] = {}
        self.schemas: set[str] = set()
        self.revision = 0

    def current(self, service: str) -> Config:
        """The config that a service has now."""
        return self.versions[service][-1][1] if service in self.versions else None

    def at(self, service: str, revision: int) -> Config:
        """The config that a service had then."""
        made = [config for when, config in self.versions.get(service, []) if when <= revision]
        return made[-1] if made else None

    def living(self) -> dict[str, dict[str, Any]]:
        """Every service that lives, with its config."""
        newest = {service: self.current(service) for service in self.versions}
        return {service: config for service, config in newest.items() if config is not None}

    def run(self, command: str, params: dict[str, Any]) -> str:
        """Carry out a command, whole or not at all; its code."""
        before = copy.deepcopy((self.versions, self.profiles, self.schemas, self.revision))
        try:
            getattr(self, command.replace("/", "_"))(dict(params))
        except Refused as refusal:
            self.versions, self.profiles, self.schemas, self.revision = before
            return str(refusal)
        if params.get("dry_run"):
            self.versions, self.profiles, self.schemas, self.revision = before
        return "ok"

    def set(self, params: dict[str, Any]) -> None:
        """Replace a config."""
        self.apply({"changes": [{"op": "set", **params}]})

    def patch(self, params: dict[str, Any]) -> None:
        """Change parts of one."""
        self.apply({"changes": [{"op": "patch", **params}]})

    def delete(self, params: dict[str, Any]) -> None:
        """Make a tombstone."""
        self.apply({"changes": [{"op": "delete", **params}]})

    def apply(self, params: dict[str, Any]) -> None:
        """Carry out changes in one revision."""
        revision = self.revision + 1
        for change in params["changes"]:
            service, current = change["service"], self.current(change["service"])
            wanted, version = change.get("expected_version"), len(self.versions.get(service, []))
            if wanted not in {None, version} and not (wanted == 0 and current is None):
                raise Refused("version_conflict")
            if change["op"] != "set" and current is None:
                raise Refused("not_found")
            new = {"set": change.get("config"), "patch": merge_patch(current, change.get("patch")), "delete": None}
            self.become(service, new[change["op"]], revision)

    def become(self, service: str, config: Config, revision: int) -> None:
        """Bring a service to a config or to its end, unless it is so."""
        if strictjson.canonical(config) != strictjson.canonical(self.current(service)):
            if config is not None and service in self.schemas and not fits(config):
                raise Refused("schema_invalid")
            self.versions.setdefault(service, []).append((revision, config))
            self.revision = revision

    def history_restore(self, params: dict[str, Any]) -> None:
        """Go back to a revision."""
        if params["revision"] > self.revision:
            raise Refused("bad_request")
        chosen = params.get("services", sorted(self.versions))
        if not set(chosen) <= self.versions.keys():
            raise Refused("not_found")
        revision = self.revision + 1
        for service in sorted(chosen):
            self.become(service, self.at(service, params["revision"]), revision)

    def profile_save(self, params: dict[str, Any]) -> None:
        """Keep what lives."""
        living = self.living()
        if not set(params.get("services", living)) <= living.keys():
            raise Refused("not_found")
        if not living:
            raise Refused("not_found")
        if params["name"] in self.profiles and not params.get("overwrite"):
            raise Refused("already_exists")
        self.profiles[params["name"]] = {service: living[service] for service in params.get("services", living)}

    def profile_load(self, params: dict[str, Any]) -> None:
        """Go back to what was kept."""
        wanted: dict[str, Config] = dict(self.profile(params["name"]))
        if params.get("exact"):
            wanted = {**dict.fromkeys(self.living()), **wanted}
        revision = self.revision + 1
        for service, config in sorted(wanted.items()):
            self.become(service, config, revision)

    def profile(self, name: str) -> dict[str, dict[str, Any]]:
        """What a profile holds."""
        if name not in self.profiles:
            raise Refused("not_found")
        return self.profiles[name]

    def profile_delete(self, params: dict[str, Any]) -> None:
        """Forget a profile."""
        self.profile(params["name"])
        del self.profiles[params["name"]]

    def schema_set(self, params: dict[str, Any]) -> None:
        """Hold a service to the schema."""
        current = self.current(params["service"])
        if current is not None and not fits(current) and not params.get("force"):
            raise Refused("schema_invalid")
        if params["service"] not in self.schemas:
            self.schemas.add(params["service"])
            self.revision += 1

    def schema_delete(self, params: dict[str, Any]) -> None:
        """Let it be anything again."""
        if params["service"] not in self.schemas:
            raise Refused("not_found")
        self.schemas.remove(params["service"])
        self.revision += 1


def fits(config: dict[str, Any]) -> bool:
    """Whether a config fits the schema of this test."""
    return "n" not in config or (isinstance(config["n"], int) and not isinstance(config["n"], bool))


class Desk:
    """A pipeline on a store that can be opened anew."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()
        self._open()

    def _open(self) -> None:
        self.store = Store(self._directory)
        runtime = new_runtime()
        self._pipeline = Pipeline(
            store=self.store,
            keyring=Keyring([ALICE]),
            topics=TOPICS,
            renderer=Renderer(KEYS, TOPICS, runtime),
            daemon=lend(runtime),
            metrics=Metrics("1"),
            clock=lambda: NOW,
        )

    async def restart(self) -> None:
        """Close the store and open it again."""
        await self.store.close()
        self._open()

    async def call(self, command: str, params: dict[str, Any]) -> dict[str, Any]:
        """Run a command; its whole reply."""
        jti = f"j-{next(self._numbers)}"
        payload = sign_command(ALICE, command, params, issued_at=NOW, topics=TOPICS, jti=jti).encode()
        reply = await self._pipeline.process(Inbound(TOPICS.command(command), payload, False, NOW))  # noqa: FBT003
        assert reply is not None
        read: dict[str, Any] = json.loads(reply.payload)
        return read

    async def ok(self, command: str, **params: Any) -> dict[str, Any]:
        """Run a command that must be carried out; its result."""
        reply = await self.call(command, params)
        assert reply["ok"], reply
        result: dict[str, Any] = reply["result"]
        return result


async def check(desk: Desk, model: Model) -> None:
    """Compare all that can be read with the model."""
    listed = await desk.ok("list")
    assert [service["service"] for service in listed["services"]] == sorted(model.living())
    for service, versions in model.versions.items():
        told = (await desk.ok("history/versions", service=service, limit=1000))["versions"]
        assert [(one["version"], one["revision"], one.get("deleted", False)) for one in reversed(told)] == [
            (number, revision, config is None) for number, (revision, config) in enumerate(versions, 1)
        ]
        for revision in range(model.revision + 1):
            reply = await desk.call("get", {"service": service, "revision": revision})
            config = model.at(service, revision)
            assert (reply["result"]["config"] if reply["ok"] else None) == config
        await check_history(desk, model, service)
        for first, last in itertools.product(range(1, len(versions) + 1), repeat=2):
            told_diff = await desk.ok("diff", service=service, **{"from": {"version": first}, "to": {"version": last}})
            assert told_diff["diff"] == differences(versions[first - 1][1] or {}, versions[last - 1][1] or {})
    assert [profile["name"] for profile in (await desk.ok("profile/list"))["profiles"]] == sorted(model.profiles)
    for name, snapshot in model.profiles.items():
        assert (await desk.ok("profile/get", name=name))["snapshot"] == snapshot


async def check_history(desk: Desk, model: Model, service: str) -> None:
    """Play the history of a service from its beginning, in pages, and arrive at what it is."""
    entries: list[dict[str, Any]] = []
    page: dict[str, Any] = {"service": service, "limit": 3}
    while True:
        result = await desk.ok("history/query", **page)
        entries += result["entries"]
        if result["next"] is None:
            break
        page["before"] = result["next"]
    played: dict[str, Any] = {}
    missing = object()
    for entry in reversed(entries):
        assert played.pop(entry["key"], missing) == entry.get("old", missing)
        if "new" in entry:
            played[entry["key"]] = entry["new"]
    assert played == (model.current(service) or {})


async def play(directory: Path, steps: list[Step]) -> None:
    """Run the steps on a new store and on the model, and compare each outcome and all of the end."""
    desk, model = Desk(directory), Model()
    for command, params in steps:
        if command == "restart":
            await desk.restart()
            continue
        read: dict[str, Any] = strictjson.loads(strictjson.dumps(params).encode())  # 1.0 is 1
        reply = await desk.call(command, read)
        assert ("ok" if reply["ok"] else reply["error"]["code"]) == model.run(command, read), (command, read, reply)
        assert reply["revision"] == model.revision, (command, read, reply)
    await check(desk, model)
    await desk.store.close()


@given(st.lists(STEPS, max_size=12))
@settings(max_examples=100, deadline=None)
def test_whatever_is_done_the_daemon_holds_what_the_model_holds(steps: list[Step]) -> None:
    """Outcomes, state, versions, history, differences, profiles and every earlier revision."""
    with tempfile.TemporaryDirectory() as directory:
        create(Path(directory), Stamp("2026-01-01T00:00:00.000Z", "setpointd"), "id")
        asyncio.run(play(Path(directory), steps))
