"""``setpointd epoch``: which of two stores is the truth (wire section 7), decided on one whose daemon is stopped."""

import asyncio
import secrets
import time
from pathlib import Path
from typing import Any

import click

from setpoint_contracts import Topics
from setpoint_contracts.timestamps import rfc3339
from setpointd.app import only_daemon
from setpointd.broker import waiting
from setpointd.broker.sight import Sight
from setpointd.broker.witness import Witness, retainable
from setpointd.errors import BrokerLostError, OperatorError
from setpointd.handlers.epoch import make_truth
from setpointd.keys import Keys
from setpointd.loaded import is_running
from setpointd.operator.options import TakesSettings, load
from setpointd.operator.tokens import ACTOR
from setpointd.records import Identity, Stamp
from setpointd.settings import Settings
from setpointd.store.files import check_exists, writing


@click.group("epoch")
def command() -> None:
    """Make a store the truth after two have parted."""


@command.command("advance", cls=TakesSettings)
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings, named as here with _ for -.")
def advance(config: Path | None, **options: Any) -> None:
    """Make the store in --data-dir the truth, whatever the broker has seen of other copies of it.

    For a stopped daemon; a running one takes the command epoch/advance. Looks at --broker, then goes to an epoch and a
    revision above all that was seen, and makes a new version of every service, so that every follower takes it. The
    daemon publishes them when it is started again.
    """
    settings = load(options, config)
    check_exists(settings.data_dir)
    if is_running(settings.data_dir):
        raise OperatorError(f"a daemon runs on {settings.data_dir}: stop it, or send it the command epoch/advance")
    with only_daemon(settings.data_dir):
        made = asyncio.run(_advance(settings))
    click.echo(
        f"epoch {made['epoch']}, revision {made['revision']}; services with a new version: {made['services']},"
        f" deleted because only the broker knew them: {made['tombstones']}"
    )


async def _advance(settings: Settings) -> dict[str, Any]:
    keys, topics = Keys.load(settings.data_dir), Topics(settings.topic_prefix)
    where = f"the broker at {settings.broker_host}:{settings.broker_port}"
    with writing(settings.data_dir, _stamp()) as tx:  # before anything else: it checks the store, and brings it to date
        own, current = tx.identity.now(), retainable(tx, topics, there={})
    try:
        sight = await _look(Witness(settings, keys), current, own, topics, keys)
        if sight.foreign:  # another store's claim would hold the daemon back at its start
            await waiting.clear(settings, topics.epoch)
    except BrokerLostError as error:
        raise OperatorError(f"the store was not changed: {where} cannot be asked: {error.args[0]}") from None
    with writing(settings.data_dir, _stamp()) as tx:
        return make_truth(tx, sight.sighting(), time.time()).members


async def _look(witness: Witness, current: dict[str, bytes], own: Identity, topics: Topics, keys: Keys) -> Sight:
    """Look at what the broker has seen of the store; ``OperatorError`` when a daemon lives there."""
    sight = Sight.make(await witness.look(), current, own, topics, keys)
    alive = await witness.alive(sight)
    if alive is not None:
        raise OperatorError(f"the store was not changed: instance {alive} is alive on the broker: stop it first")
    return sight


def _stamp() -> Stamp:
    return Stamp(rfc3339(time.time()), ACTOR, f"advance-{secrets.token_hex(8)}")
