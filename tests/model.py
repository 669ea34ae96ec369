"""A model of the daemon that plain dicts hold, and the commands that it and a daemon are to agree on."""

import copy
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from setpoint_contracts import strictjson
from setpoint_contracts.difference import merge_patch
from tests.calls import NOW

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
one_version = st.tuples(services, st.integers(1, 5)).map(lambda one: {"services": [one[0]], "version": one[1]})
kids = st.integers(1, 4).map(lambda number: {"kid": f"tok_{number}"})
lives = st.sampled_from([{}, {"ttl_s": 10}, {"ttl_s": 7200}])
graces = st.sampled_from([{}, {"grace_s": 0}, {"grace_s": 7200}])
kept = st.sampled_from([{"keep_versions": 1}, {"keep_versions": 2}, {"keep_days": 0}, {"keep_days": 1}])
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
WAYS: dict[str, list[tuple[st.SearchStrategy[dict[str, Any]], ...]]] = {
    "set": [
        (the("service", services), the("config", configs), expected, dry),
        (the("service", services), the("config", configs), expected),
    ],
    "patch": [(the("service", services), the("patch", configs), expected, dry)],
    "delete": [(the("service", services), expected, dry)],
    "apply": [(the("changes", changes), dry)],
    "history/restore": [(subsets, revisions, dry), (one_version, dry)],
    "history/prune": [(kept, st.one_of(st.just({}), kept))],
    "profile/save": [(names, subsets, st.sampled_from([{}, {"overwrite": True}]))],
    "profile/load": [(names, st.sampled_from([{}, {"exact": True}]), dry)],
    "profile/delete": [(names,)],
    "schema/set": [(the("service", services), st.just({"schema": NUMBERS}), st.sampled_from([{}, {"force": True}]))],
    "schema/delete": [(the("service", services),)],
    "epoch/advance": [(st.sampled_from([{}, {"expected_epoch": 0}, {"expected_epoch": 7}]),)],
    "token/create": [(st.just({"name": "pi"}), the("role", st.sampled_from(["viewer", "admin"])), lives)],
    "token/rotate": [(kids, graces)],
    "token/revoke": [(kids,)],
}
"""Of each mutating command, from which parts its parameters are put together."""
STEPS = st.one_of(
    *(step(command, *parts) for command, ways in WAYS.items() for parts in ways), st.just(("restart", {}))
)


class Refused(Exception):  # noqa: N818 - an outcome, as it is to the daemon
    """The model says that a command is refused with this code."""


@dataclass
class Version:
    """One version of a service. ``quiet``: it changed nothing (``epoch/advance``). ``gone``: it was pruned."""

    revision: int
    config: Config
    quiet: bool = False
    gone: bool = False


@dataclass
class Held:
    """A token: its role, when it ends (POSIX seconds, None: never), and whether it was revoked."""

    role: str
    ends: float | None
    revoked: bool = False

    def is_admin_at(self, moment: float) -> bool:
        """Whether it still is an admin's at a moment to come."""
        return self.role == "admin" and not self.revoked and (self.ends is None or self.ends >= moment)

    def has_ended(self) -> bool:
        """Whether it counts no more."""
        return self.revoked or (self.ends is not None and self.ends <= NOW)


@dataclass
class Model:
    """Every version of every service, which of them the profiles name, who has the schema, and all tokens."""

    versions: dict[str, list[Version]] = field(default_factory=dict)
    profiles: dict[str, dict[str, int]] = field(default_factory=dict)
    schemas: set[str] = field(default_factory=set)
    tokens: dict[str, Held] = field(default_factory=dict)
    revision: int = 0
    epoch: int = 0

    def current(self, service: str) -> Config:
        """The config that a service has now."""
        return self.versions[service][-1].config if service in self.versions else None

    def living(self) -> dict[str, int]:
        """Every service that lives, with the number of its newest version."""
        return {service: len(made) for service, made in self.versions.items() if made[-1].config is not None}

    def at(self, service: str, revision: int) -> Config:
        """The config that a service had then; refused when something was pruned that may have been it."""
        made = self.versions.get(service, [])
        then = [n for n, version in enumerate(made) if version.revision <= revision and not version.gone]
        gone = [n for n, version in enumerate(made) if version.gone]
        if gone and made[gone[0]].revision <= revision and (not then or then[-1] < gone[-1]):
            raise Refused("not_found")
        return made[then[-1]].config if then else None

    def snapshot(self, name: str) -> dict[str, Config]:
        """What a profile holds."""
        if name not in self.profiles:
            raise Refused("not_found")
        return {service: self.versions[service][version - 1].config for service, version in self.profiles[name].items()}

    def run(self, command: str, params: dict[str, Any]) -> str:
        """Carry out a command, whole or not at all; its code."""
        before = copy.deepcopy(vars(self))
        try:
            getattr(self, command.replace("/", "_"))(dict(params))
        except Refused as refusal:
            vars(self).update(before)
            return str(refusal)
        if params.get("dry_run"):
            vars(self).update(before)
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
            self.versions.setdefault(service, []).append(Version(revision, config))
            self.revision = revision

    def become_all(self, contents: dict[str, Config]) -> None:
        """Bring services to what they are to be, in one revision."""
        revision = self.revision + 1
        for service, config in sorted(contents.items()):
            self.become(service, config, revision)

    def history_restore(self, params: dict[str, Any]) -> None:
        """Go back to a revision, or one service to a version."""
        if not set(params.get("services", [])) <= self.versions.keys():
            raise Refused("bad_request" if params.get("revision", 0) > self.revision else "not_found")
        if "version" in params:
            [service] = params["services"]
            made = self.versions[service][params["version"] - 1 :]
            if not made or made[0].gone:
                raise Refused("not_found")
            self.become_all({service: made[0].config})
            return
        revision = params["revision"]
        if revision > self.revision:
            raise Refused("bad_request")
        later = [service for service, made in self.versions.items() if made[-1].revision > revision]
        self.become_all({service: self.at(service, revision) for service in params.get("services", later)})

    def history_prune(self, params: dict[str, Any]) -> None:
        """Forget what is old and no profile names; all of it was made now, and was in force within any day."""
        if params.get("keep_days"):
            return
        for service, made in self.versions.items():
            there = [number for number, version in enumerate(made, 1) if not version.gone]
            named = {held[service] for held in self.profiles.values() if service in held}
            for number in there[: -params.get("keep_versions", 1)]:
                made[number - 1].gone = number not in named

    def profile_save(self, params: dict[str, Any]) -> None:
        """Keep what lives."""
        living = self.living()
        if not living or not set(params.get("services", living)) <= living.keys():
            raise Refused("not_found")
        if params["name"] in self.profiles and not params.get("overwrite"):
            raise Refused("already_exists")
        self.profiles[params["name"]] = {service: living[service] for service in params.get("services", living)}

    def profile_load(self, params: dict[str, Any]) -> None:
        """Go back to what was kept."""
        others = self.living() if params.get("exact") else {}
        self.become_all({**dict.fromkeys(others), **self.snapshot(params["name"])})

    def profile_delete(self, params: dict[str, Any]) -> None:
        """Forget a profile."""
        self.snapshot(params["name"])
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

    def epoch_advance(self, params: dict[str, Any]) -> None:
        """Begin an epoch by the clock, one further since this daemon is the writer, with a version of everything."""
        if params.get("expected_epoch", self.epoch) != self.epoch:
            raise Refused("bad_request")
        self.epoch = max(self.epoch + 1, int(NOW)) + 1
        self.revision += 1
        for made in self.versions.values():
            made.append(Version(self.revision, made[-1].config, quiet=True))

    def token_create(self, params: dict[str, Any]) -> None:
        """Make a token."""
        self.add(Held(params["role"], NOW + params["ttl_s"] if "ttl_s" in params else None))

    def token_rotate(self, params: dict[str, Any]) -> None:
        """Make one that lives as long, and end the old one after a while."""
        old = self.token(params["kid"])
        if old.has_ended():
            raise Refused("bad_request")
        self.add(Held(old.role, old.ends))
        ends = NOW + params.get("grace_s", 300)
        old.ends = ends if old.ends is None else min(ends, old.ends)

    def token_revoke(self, params: dict[str, Any]) -> None:
        """End one for good, unless it would leave no admin for an hour, or for as long as it has."""
        token = self.token(params["kid"])
        until = NOW + 3600 if token.ends is None else min(token.ends, NOW + 3600)
        others = (other for other in self.tokens.values() if other is not token)
        if token.role == "admin" and not token.has_ended() and not any(other.is_admin_at(until) for other in others):
            raise Refused("bad_request")
        token.revoked = True

    def token(self, kid: str) -> Held:
        """Find a token."""
        if kid not in self.tokens:
            raise Refused("not_found")
        return self.tokens[kid]

    def add(self, token: Held) -> None:
        """Give a token the next kid."""
        self.tokens[f"tok_{len(self.tokens) + 1}"] = token


def fits(config: dict[str, Any]) -> bool:
    """Whether a config fits the schema of this test."""
    return "n" not in config or (isinstance(config["n"], int) and not isinstance(config["n"], bool))
