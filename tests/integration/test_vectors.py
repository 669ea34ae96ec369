"""Every vector of the contracts through the real pipeline, broker to store, at the vectors' own time."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from joserfc.util import urlsafe_b64decode

from setpoint_contracts import Token, Topics, strictjson
from setpointd.auth import Keyring
from setpointd.broker.session import connect
from setpointd.call import Daemon
from setpointd.keys import Keys
from setpointd.messages import Outbound
from setpointd.metrics import Metrics
from setpointd.pipeline import Pipeline
from setpointd.records import Sighting
from setpointd.render import Renderer
from setpointd.runtime import Runtime
from setpointd.settings import Settings
from setpointd.store import Store
from setpointd.store.files import create, writing
from tests.brokers import Broker
from tests.caller import calling, connecting, publish_properties
from tests.daemon import broker_settings
from tests.vectors import ALL, MADE, NOW, TOKENS, fits, know

PRINCIPALS = {token.name: token for token in TOKENS.values()}
TOPICS = Topics()


@dataclass(frozen=True)
class Served:
    """A served broker session: where to call it, and what it counts."""

    host: str
    port: int
    metrics: Metrics
    topics: Topics = TOPICS
    token: Token = TOKENS["tok_admin"]

    def counted(self, series: str) -> float:
        """Add up all series of one name."""
        lines = self.metrics.render().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


@pytest.fixture(scope="module")
def plain_broker(new_broker: Callable[[], Broker]) -> Broker:
    """Start a broker of this module's own: the vectors are signed for topics without a prefix."""
    return new_broker()


@pytest.fixture(scope="module")
def vectors_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one store that knows the vectors' tokens; each vector gets a copy, because making one takes a while."""
    path = tmp_path_factory.mktemp("vectors")
    create(path, MADE, "725f141d-042e-4f72-828e-5d90ca2db912")
    keys = Keys.create(path)
    with writing(path, MADE) as tx:
        know(tx, keys)
    return path


@pytest.fixture
async def pipeline(plain_broker: Broker, vectors_store: Path, tmp_path: Path) -> AsyncIterator[Served]:
    """Serve with no service, the vectors' tokens, every limit at its default, and a clock that stands still."""
    data_dir = shutil.copytree(vectors_store, tmp_path / "data")
    settings = Settings(data_dir=data_dir, **broker_settings(plain_broker))
    store = Store(data_dir)
    keys = Keys.load(data_dir)
    metrics = Metrics("1.2.3")
    runtime = Runtime(
        "1.2.3", "6f7f4a1e-98ff-4a48-9d3f-8f2f5f3c8b11", settings.limits, uptime=lambda: 0.0, mode="active"
    )
    renderer = Renderer(keys, TOPICS, runtime)
    pipeline = Pipeline(
        store=store,
        keyring=Keyring([token.public() for token in TOKENS.values()]),
        topics=TOPICS,
        renderer=renderer,
        daemon=Daemon(
            runtime=runtime,
            keys=keys,
            fresh_id=lambda: "id",
            fresh_secret=lambda: bytes(32),
            sighting=Sighting,
            activate=lambda: None,
            learn=lambda _: None,
            applied=lambda _service: [],
        ),
        metrics=metrics,
        clock=lambda: NOW,
    )
    async with connect(settings, Outbound(TOPICS.health, b"{}"), lambda: NOW) as session:
        await session.subscribe([TOPICS.commands])
        await session.publish(keys.signed(TOPICS.keys, keys.public_jwks(), retain=True))
        serving = asyncio.create_task(session.serve(pipeline.process), name="serving")
        yield Served(plain_broker.host, plain_broker.port, metrics)
        session.stop()
        await serving
    await store.close()


async def carry_out(step: dict[str, Any], pipeline: Served) -> None:
    """Send a command that must be carried out, as whoever signed it."""
    header = strictjson.loads(urlsafe_b64decode(step["payload"].partition(".")[0].encode()))
    async with calling(pipeline, TOKENS[header["kid"]]) as caller:
        reply = await caller.exchange(step["topic"], step["payload"])
    assert reply.ok, reply


@pytest.mark.parametrize("vector", ALL, ids=[vector["name"] for vector in ALL])
async def test_a_vector_has_its_outcome(vector: dict[str, Any], pipeline: Served) -> None:
    """Reply, code, reply topic and silence are those that stand in the vector, and nothing else is published."""
    expected = vector["expect"]
    for step in vector.get("before", []):
        await carry_out(step, pipeline)
    reply_topic = expected.get("reply_topic")
    name = reply_topic.split("/")[2] if reply_topic else "admin"
    properties = publish_properties(
        **({"ResponseTopic": topic} if (topic := vector["properties"].get("response_topic")) else {})
    )
    async with connecting(pipeline) as witness, calling(pipeline, PRINCIPALS[name]) as caller:
        await witness.subscribe("config/reply/#", qos=1)
        await witness.publish(
            vector["topic"], vector["payload"].encode(), qos=1, retain=vector["retain"], properties=properties
        )
        if vector["retain"]:
            await witness.publish(vector["topic"], b"", qos=1, retain=True)
        if expected["outcome"] == "reply":
            reply = await caller.reply(reply_topic)
            assert reply.ok == (expected["code"] is None)
            assert (reply.error and reply.error.code) == expected["code"]
            assert fits(expected.get("result", {}), reply.result or {})
            assert fits(expected.get("details", {}), reply.error.details if reply.error else {})
        # Reads are answered at once and writes in order: once this one is, nothing more can come of the vector.
        async with calling(pipeline) as admin:
            await admin.ok("set", {"service": "afterwards", "config": {}}, jti="afterwards", issued_at=NOW)
        topics = [str((await anext(witness.messages)).topic) for _ in range(2 if reply_topic else 1)]
    assert topics == [*([reply_topic] if reply_topic else []), "config/reply/admin/afterwards"]
    carried_out = pipeline.counted('setpoint_commands_total{code="ok"') - 1 - len(vector.get("before", []))
    dropped = pipeline.counted("setpoint_messages_dropped_total")
    assert carried_out == (expected["outcome"] != "drop" and not expected["code"])
    assert (dropped > 0) == (expected["outcome"] == "drop")
