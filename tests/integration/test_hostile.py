"""What a daemon must survive: it answers what the wire says, goes on, stays connected, and logs no failure."""

import base64
import contextlib
import hashlib
import hmac
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from setpoint_contracts import Token
from tests.brokers import Broker
from tests.caller import Caller, calling, connecting, publish_properties
from tests.daemon import Daemon, Daemons, NewDaemon
from tests.waiting import DEADLINE_S, eventually


@pytest.fixture(scope="module")
def shared_daemon(broker: Broker, fresh_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Share one daemon that takes commands as fast as they come: what it must survive is to reach it."""
    daemons = Daemons(broker, fresh_store, tmp_path_factory.mktemp("shared"))
    yield daemons.new(rate_limit_per_s=0)
    daemons.remove()


@pytest.fixture(autouse=True)
async def unharmed(shared_daemon: Daemon, admin: Caller, service: str) -> AsyncIterator[None]:
    """After each test the daemon still works, on the connection that it had; `Daemon.remove` looks at its log."""
    connections = shared_daemon.metric("setpoint_broker_connections_total")
    yield
    assert (await admin.ok("set", {"service": f"{service}-after", "config": {}}))["version"] == 1
    assert shared_daemon.metric("setpoint_broker_connections_total") == connections == 1
    assert shared_daemon.ready()


def b64(data: bytes) -> str:
    """Encode as JWS does."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign_bytes(token: Token, claims: bytes) -> str:
    """Sign any bytes as claims: what an authenticated sender could send."""
    header = b'{"alg":"HS256","kid":"%s"}' % token.kid.encode()
    signed = f"{b64(header)}.{b64(claims)}"
    mac = hmac.new(base64.urlsafe_b64decode(f"{token.k}="), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{b64(mac)}"


def claims(topic: str, jti: str, params: bytes = b"{}", more: bytes = b"") -> bytes:
    """Write claims by hand, valid now for a topic."""
    now = int(time.time())
    return b'{"jti":"%s","aud":"%s","iat":%d,"exp":%d,"params":%s%s}' % (
        jti.encode(),
        topic.encode(),
        now,
        now + 60,
        params,
        more,
    )


def dropped(daemon: Daemon, reason: str) -> float:
    """Read how many messages were dropped for a reason."""
    return daemon.metric(f'setpoint_messages_dropped_total{{reason="{reason}"}}')


GARBAGE = {
    "nothing": (b"", "not_jws"),
    "zeros": (bytes(1000), "not_jws"),
    "no UTF-8": (b"\xff\xfe\xfd" * 99, "not_jws"),
    "JSON": (b'{"service":"stt"}', "not_jws"),
    "brackets": (b"[" * 20_000, "not_jws"),
    "dots": (b"." * 10_000, "not_jws"),
    "almost a JWS": (b"AAAA.AAAA.AAAA", "not_jws"),
    "a deep header": (b64(b"[" * 700).encode() + b".AAAA.AAAA", "not_jws"),
    "300 kB": (b"A" * 300_000, "too_large"),
    "300 kB in three parts": (b".".join([b"A" * 100_000] * 3), "too_large"),
}


@pytest.mark.parametrize(("payload", "reason"), GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_dropped_and_counted(
    payload: bytes, reason: str, admin: Caller, shared_daemon: Daemon
) -> None:
    """Bytes that nobody signed: no answer, one more of its kind in the metrics."""
    before = dropped(shared_daemon, reason)
    async with connecting(shared_daemon) as witness:
        await witness.subscribe(f"{shared_daemon.prefix}config/reply/#", qos=1)
        await witness.publish(admin.topics.command("set"), payload, qos=1)
        await admin.ok("info", jti="behind-it")
        assert str((await anext(witness.messages)).topic) == admin.topics.reply("admin", "behind-it")
    assert dropped(shared_daemon, reason) == before + 1


async def test_ten_megabytes_are_too_large(shared_daemon: Daemon) -> None:
    """A payload far beyond the limit is dropped and counted as any other."""
    before = dropped(shared_daemon, "too_large")
    async with connecting(shared_daemon) as sender:
        await sender.publish(shared_daemon.topics.command("set"), b"A" * 10_000_000, qos=1)
    await eventually(lambda: dropped(shared_daemon, "too_large") == before + 1, "it is counted")


async def test_many_too_large_messages_do_not_deafen_it(new_daemon: NewDaemon) -> None:
    """More of them than the broker may send unacknowledged: the next command is answered all the same."""
    daemon = new_daemon(receive_maximum=4)
    async with connecting(daemon) as sender, calling(daemon) as caller:
        for _ in range(12):
            await sender.publish(daemon.topics.command("set"), b"A" * 700_000, qos=1)
        await caller.ok("info")
    assert dropped(daemon, "too_large") == 12


@pytest.mark.parametrize("command", ["set", "a/" * 150, "/", "\u00e9\U0001f600", "x" * 10_000, "$SYS", " "])
async def test_any_command_topic_will_do(command: str, admin: Caller) -> None:
    """Levels, lengths and characters of a topic below `config/cmd/` harm nobody; who signs for it is answered."""
    jws = admin.sign(command, jti="levels", lifetime_s=60)
    await admin.mqtt.publish(admin.topics.command(command), jws, qos=1)
    reply = await admin.reply(admin.topics.reply("admin", "levels"))
    assert reply.error is not None
    assert reply.error.code == ("bad_request" if command == "set" else "unknown_command")
    assert reply.command == command


SIGNED = {
    "20,000 nested arrays": b'{"service":"stt","config":{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}}",
    "20,000 nested objects": b'{"service":"stt","config":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
    "a lone surrogate": rb'{"service":"stt","config":{"a":"\ud800"}}',
    "a lone surrogate in a key": rb'{"service":"stt","config":{"a":{"\udfff":1}}}',
    "a surrogate pair the wrong way round": rb'{"service":"stt","config":{"a":"\udc00\ud800"}}',
    "5,000 digits": b'{"service":"stt","config":{"a":' + b"9" * 5000 + b"}}",
    "5,000 digits as a version": b'{"service":"stt","config":{},"expected_version":' + b"9" * 5000 + b"}",
    "a number beyond doubles": b'{"service":"stt","config":{"a":1e999}}',
    "no UTF-8": b'{"service":"stt","config":{"a":"\xff"}}',
    "a key twice": b'{"service":"stt","config":{"a":1,"a":2}}',
    "NaN": b'{"service":"stt","config":{"a":NaN}}',
    "no end": b'{"service":"stt","config":{"a":"',
    "a service that climbs": b'{"service":"../../etc/passwd","config":{}}',
    "a service with a zero": rb'{"service":"a\u0000b","config":{}}',
    "a service with a wildcard": b'{"service":"+","config":{}}',
    "a key with a zero": rb'{"service":"stt","config":{"a\u0000":1}}',
}
# No JSON at all, so that nobody can tell which request it was.
UNREADABLE = (SIGNED["no UTF-8"], SIGNED["no end"])


@pytest.mark.parametrize("params", SIGNED.values(), ids=SIGNED.keys())
async def test_signed_nonsense_is_a_bad_request(params: bytes, admin: Caller) -> None:
    """Whoever signs what cannot be read is told so on its own reply topic, and nothing is written."""
    topic = admin.topics.command("set")
    before = (await admin.ok("status"))["revision"]
    await admin.mqtt.publish(topic, sign_bytes(admin.token, claims(topic, "nonsense", params)), qos=1)
    reply = await admin.reply(admin.topics.reply("admin", "invalid" if params in UNREADABLE else "nonsense"))
    assert reply.error is not None
    assert reply.error.code == "bad_request"
    assert reply.error.details["errors"]
    assert reply.revision == before


@pytest.mark.parametrize("body", [b" ", b"null", b"[]", b"\xff", b"[" * 20_000, b'{"jti":{}}', b'{"jti":"\\ud800"}'])
async def test_signed_nonsense_without_jti_is_answered_as_invalid(body: bytes, admin: Caller) -> None:
    """Claims of which not even a jti can be made out are answered under `invalid`."""
    await admin.mqtt.publish(admin.topics.command("set"), sign_bytes(admin.token, body), qos=1)
    reply = await admin.reply(admin.topics.reply("admin", "invalid"))
    assert reply.id is None
    assert reply.error is not None
    assert reply.error.code == "bad_request"


@pytest.mark.parametrize(
    "rest",
    [
        b"/" * 200,
        b"x/" * 63,
        rb"\u0000",
        rb"\u0001\u001f\u007f",
        rb"\uffff",
        rb"\ufeff",
        b"#",
        b"+/x",
        b"x" * 300,
        "é".encode() * 150,
    ],
    ids=lambda rest: repr(rest[:12]),
)
async def test_a_reply_topic_cannot_disconnect_the_daemon(rest: bytes, admin: Caller) -> None:
    """A broker drops a publisher for some topics; an authenticated caller cannot have the daemon publish to one."""
    topic = admin.topics.command("info")
    wish = admin.topics.reply("admin", "").encode() + rest
    jws = sign_bytes(admin.token, claims(topic, "wish", more=b',"reply_to":"%s"' % wish))
    await admin.mqtt.publish(topic, jws, qos=1)
    reply = await admin.reply(admin.topics.reply("admin", "wish"))
    assert reply.error is not None
    assert reply.error.code == "bad_reply_topic"


async def test_a_large_command_within_the_limit_is_read(admin: Caller, service: str) -> None:
    """As much as a command may hold, most of it white space inside the claims: it is carried out."""
    topic = admin.topics.command("set")
    params = b'{"service":"%s","config":{"a":1}%s}' % (service.encode(), b" " * 190_000)
    jws = sign_bytes(admin.token, claims(topic, service, params))
    assert 250_000 < len(jws) <= 262_144
    await admin.mqtt.publish(topic, jws, qos=1)
    assert (await admin.reply(admin.topics.reply("admin", service))).ok


async def test_ten_thousand_errors_make_no_larger_reply(admin: Caller) -> None:
    """However many parameters are wrong, only some of them are told: a reply does not outgrow its command."""
    error = await admin.error("set", {"service": "stt", "config": {f"{n}": n for n in range(10_000)}})
    assert error["code"] == "bad_request"
    assert len(error["details"]["errors"]) == 100


async def test_odd_properties_do_no_harm(admin: Caller, service: str) -> None:
    """Binary and large correlation data, user properties, another content type: the command is carried out."""
    properties = publish_properties(
        CorrelationData=bytes(range(256)) * 200,
        UserProperty=[("jws", "a..b"), ("x", "y" * 1000)] * 20,
        ContentType="text/html",
        PayloadFormatIndicator=0,
        MessageExpiryInterval=60,
    )
    reply = await admin.call("set", {"service": service, "config": {}}, properties=properties)
    assert reply.ok


async def test_a_flood_is_worked_off(admin: Caller, service: str) -> None:
    """Two thousand messages at once, most of them garbage: each of the good ones is answered."""
    topic = admin.topics.command("set")
    for n in range(2000):
        good = n % 10 == 0
        payload = admin.sign("set", {"service": service, "config": {"n": n}}, jti=f"{service}-{n}") if good else b"no"
        await admin.mqtt.publish(topic, payload, qos=n % 2)
    for n in range(0, 2000, 10):
        assert (await admin.reply(admin.topics.reply("admin", f"{service}-{n}"))).ok


@pytest.mark.parametrize("qos", [0, 1])
async def test_more_commands_than_it_works_on_at_once_are_all_answered(qos: int, admin: Caller, service: str) -> None:
    """Three thousand at once, far more than are taken on together: reads and writes, each is answered."""
    reads, writes = admin.topics.command("info"), admin.topics.command("set")
    count = 3000
    for n in range(count):
        jti = f"{service}-{n}"
        if n % 50:
            await admin.mqtt.publish(reads, admin.sign("info", jti=jti), qos=qos)
        else:
            payload = admin.sign("set", {"service": service, "config": {"n": n}}, jti=jti)
            await admin.mqtt.publish(writes, payload, qos=qos)
    for n in range(count):
        assert (await admin.message(admin.topics.reply("admin", f"{service}-{n}"))).payload


def test_http_garbage_does_not_keep_a_probe_waiting(shared_daemon: Daemon) -> None:
    """Garbage, a 100 kB request line, and connections that say little or nothing: probes are answered all the while."""
    host, _, port = shared_daemon.http.partition(":")
    with contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection((host, int(port)), timeout=DEADLINE_S))

        idle = [connect() for _ in range(20)]
        for number, connection in enumerate(idle[:10]):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n"[: number * 3 + 1])
        for garbage in (b"\x00\xff" * 500 + b"\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"{}\n\n"):
            connection = connect()
            with contextlib.suppress(OSError):  # it may hang up before all is sent
                connection.sendall(garbage)
                assert connection.recv(99).split(b" ")[1:2] in ([b"400"], [b"431"])
            assert shared_daemon.probe("/livez")[0] == 200
            assert shared_daemon.probe("/readyz")[0] == 200
        assert shared_daemon.probe("/../../etc/passwd")[0] == 404
