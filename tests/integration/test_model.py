"""Every mutating command, in any order and over restarts, against a model that plain dicts hold.

Signed commands go through the real pipeline into a real store; only the broker is left out, for the number of runs.
"""

import asyncio
import dataclasses
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from setpoint_contracts import Role, Token, sign_command, strictjson
from setpoint_contracts.difference import differences
from setpoint_contracts.timestamps import rfc3339
from setpointd.auth import Keyring
from setpointd.messages import Inbound
from setpointd.metrics import Metrics
from setpointd.pipeline import Pipeline
from setpointd.records import Stamp
from setpointd.render import Renderer
from setpointd.store import Store
from setpointd.table import TABLE
from tests.calls import KEYS, NOW, lend, new_runtime
from tests.model import STEPS, WAYS, Model, Refused, Step
from tests.stores import new_store
from tests.unit.claims import TOPICS

ALICE = Token.new("HS256", "tok_a", "alice", Role.ADMIN)


class Desk:
    """A pipeline on a store that can be opened anew."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()
        self._ids = itertools.count(1)
        self._open()

    def _open(self) -> None:
        self.store = Store(self._directory)
        runtime = new_runtime()
        self._pipeline = Pipeline(
            store=self.store,
            keyring=Keyring([ALICE]),
            topics=TOPICS,
            renderer=Renderer(KEYS, TOPICS, runtime),
            daemon=dataclasses.replace(lend(runtime), fresh_id=lambda: str(next(self._ids))),
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
    for service in model.versions:
        await check_versions(desk, model, service)
        await check_moments(desk, model, service)
        await check_history(desk, model, service)
    assert [profile["name"] for profile in (await desk.ok("profile/list"))["profiles"]] == sorted(model.profiles)
    for name in model.profiles:
        assert (await desk.ok("profile/get", name=name))["snapshot"] == model.snapshot(name)
    tokens = {token["kid"]: token for token in (await desk.ok("token/list"))["tokens"]}
    assert {
        kid: (told["role"], told["expires_at"], told["revoked_at"] is not None) for kid, told in tokens.items()
    } == {
        kid: (token.role, None if token.ends is None else rfc3339(token.ends), token.revoked)
        for kid, token in model.tokens.items()
    }
    assert (await desk.ok("status"))["epoch"] == model.epoch


async def check_versions(desk: Desk, model: Model, service: str) -> None:
    """Compare which versions there are, and what makes each of them out of each."""
    made = {number: version for number, version in enumerate(model.versions[service], 1) if not version.gone}
    told = (await desk.ok("history/versions", service=service, limit=1000))["versions"]
    assert [(one["version"], one["revision"], one.get("deleted", False)) for one in reversed(told)] == [
        (number, version.revision, version.config is None) for number, version in made.items()
    ]
    for first, last in itertools.product(made, repeat=2):
        told_diff = await desk.ok("diff", service=service, **{"from": {"version": first}, "to": {"version": last}})
        assert told_diff["diff"] == differences(made[first].config or {}, made[last].config or {})


async def check_moments(desk: Desk, model: Model, service: str) -> None:
    """Compare what the service was at each revision, pruned ones told from those before it was."""
    for revision in range(model.revision + 1):
        reply = await desk.call("get", {"service": service, "revision": revision})
        details = {} if reply["ok"] else reply["error"].get("details", {})
        try:
            expected, pruned = model.at(service, revision), False
        except Refused:
            expected, pruned = None, True
        assert (reply["result"]["config"] if reply["ok"] else None) == expected
        assert details.get("pruned", False) == pruned


async def check_history(desk: Desk, model: Model, service: str) -> None:
    """Compare the entries of all versions that are there, read in pages, with what each changed."""
    entries: list[dict[str, Any]] = []
    page: dict[str, Any] = {"service": service, "limit": 3}
    while True:
        result = await desk.ok("history/query", **page)
        entries += result["entries"]
        if result["next"] is None:
            break
        page["before"] = result["next"]
    told, expected = {}, {}
    for entry in entries:
        if not model.versions[service][entry["version"] - 1].gone:
            told[entry["version"], entry["key"]] = {side: entry[side] for side in ("old", "new") if side in entry}
    before: dict[str, Any] = {}
    for number, version in enumerate(model.versions[service], 1):
        after = version.config or {}
        for change in () if version.quiet or version.gone else differences(before, {**after}):
            key = change["path"].split("/")[1]
            sides = (("old", before), ("new", after))
            expected[number, key] = {side: config[key] for side, config in sides if key in config}
        before = after
    assert strictjson.canonical(sorted(map(list, told.items()), key=str)) == strictjson.canonical(
        sorted(map(list, expected.items()), key=str)
    )


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


def test_the_steps_are_all_mutating_commands() -> None:
    """Whatever changes something in the table of commands is tried, and nothing else is."""
    assert WAYS.keys() == {name for name, entry in TABLE.items() if entry.stored}


@given(st.lists(STEPS, max_size=12))
@settings(max_examples=60, deadline=None)
@pytest.mark.timeout(240)  # each example makes a store: a deadline, for a slow disk
def test_whatever_is_done_the_daemon_holds_what_the_model_holds(steps: list[Step]) -> None:
    """Outcomes, state, versions, history, differences, profiles, tokens and every earlier revision."""
    with tempfile.TemporaryDirectory() as directory:
        new_store(Path(directory), Stamp("2026-01-01T00:00:00.000Z", "setpointd"))
        asyncio.run(play(Path(directory), steps))
