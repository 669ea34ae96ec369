"""What a command leaves behind, audit events and what is published, is what its model declares: by the vectors."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from setpoint_contracts import COMMANDS, Topics
from setpointd.records import OutboxQueue, OutboxRow
from setpointd.store import Snapshot, Store
from tests.calls import KEYS
from tests.stores import new_store
from tests.unit.test_pipeline import Desk
from tests.vectors import ALL, MADE, NOW, TOKENS, know

TOPICS = Topics()
PUBLISHED = {"updated": TOPICS.updated("{service}"), "schema": TOPICS.schema("{service}")}
"""What is published for a row of the outbox, but for events."""
NOT_BY_THE_OUTBOX = {TOPICS.epoch, TOPICS.health}


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_leaves_what_it_declares(command: str, tmp_path: Path) -> None:
    """All vectors of a command that are carried out leave its actions and its topics, and no others."""
    actions, topics = set(), set()
    for vector in ALL:
        if vector["topic"] == TOPICS.command(command) and vector["expect"].get("code", "") is None:
            left = await effects(vector, tmp_path / vector["name"])
            actions |= {event["action"] for event in left if isinstance(event, dict)}
            topics |= {PUBLISHED[kind] for kind in left if isinstance(kind, str)}
    model = COMMANDS[command]
    assert actions == set(model.actions)
    assert topics == set(model.publishes) - NOT_BY_THE_OUTBOX


async def effects(vector: dict[str, Any], directory: Path) -> Sequence[str | dict[str, Any] | None]:
    """List what a vector puts into the outbox of a new store: audit events, and the kinds of what else it has."""
    store = empty_store(directory)
    desk = Desk(store, [token.public() for token in TOKENS.values()], TOPICS, NOW)
    await store.write(MADE, lambda tx: know(tx, KEYS))
    await send(desk, *vector.get("before", []))
    earlier = await store.read(outbox)
    await send(desk, vector)
    rows = [row for row in await store.read(outbox) if row not in earlier]
    left = await store.read(
        lambda snapshot: [snapshot.audit.event(row.ref) if row.kind == "audit" else row.kind for row in rows]
    )
    await store.close()
    return left


def empty_store(directory: Path) -> Store:
    """Make a store in a directory of its own."""
    directory.mkdir()
    new_store(directory, MADE)
    return Store(directory)


async def send(desk: Desk, *vectors: dict[str, Any]) -> None:
    """Hand vectors in, all of which must be carried out."""
    for vector in vectors:
        payload = await desk.send(vector["payload"].encode(), TOPICS.command_name(vector["topic"]))
        assert payload is None or json.loads(payload)["ok"]


def outbox(snapshot: Snapshot) -> list[OutboxRow]:
    """List what waits to be published."""
    return [row for queue in get_args(OutboxQueue) for row in snapshot.outbox.first(queue, 1000)]
