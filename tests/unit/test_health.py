"""The HTTP shim over real sockets: what it answers, and what it survives."""

import asyncio
import io
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from email.message import Message
from functools import partial
from http.client import parse_headers
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from setpointd.health import MAX_REQUESTS, Check, Health, ListenError, serve
from setpointd.metrics import CONTENT_TYPE

PASSING = Health(
    mode="active",
    epoch=3,
    revision=812,
    version="1.2.3",
    uptime_s=61.23456,
    checks={"broker": Check("pass", "connected"), "store": Check("pass", "open")},
)
WARNING = PASSING._replace(checks={**PASSING.checks, "store": Check("warn", "read-only: stale_store")})
FAILING = PASSING._replace(checks={**PASSING.checks, "broker": Check("fail", "not connected")})
DEAD = PASSING._replace(live=False)

Address = tuple[str, int]


async def passing() -> Health:
    """Say that all is well."""
    return PASSING


async def no_metrics() -> bytes:
    """Have nothing to tell a scraper."""
    return b""


class Answer(NamedTuple):
    """One HTTP response."""

    status: int
    headers: Message
    body: bytes


@asynccontextmanager
async def shim(
    state: Health = PASSING,
    *,
    metrics: Callable[[], bytes] = lambda: b"setpoint_up 1\n",
    host: str = "127.0.0.1",
    deadline_s: float = 10,
    max_connections: int = 64,
    logs: Sequence[str] = (),
) -> AsyncIterator[Address]:
    """Serve a fixed state; at the end only ``logs`` were logged, and nothing reached asyncio's exception handler."""

    async def health() -> Health:
        return state

    async def scrape() -> bytes:
        return metrics()

    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    open_shim = partial(serve, deadline_s=deadline_s, max_connections=max_connections)
    with capture_logs() as events:
        async with open_shim(host, 0, health=health, metrics=scrape) as address:
            yield address
    assert [event["event"] for event in events] == list(logs)
    assert reported == []


async def answer(reader: asyncio.StreamReader, *, bodiless: bool = False) -> Answer:
    """Read one response, as long as it says it is."""
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        line, _, fields = head.partition(b"\r\n")
        headers = parse_headers(io.BytesIO(fields))
        body = b"" if bodiless else await reader.readexactly(int(headers["Content-Length"]))
    return Answer(int(line.split()[1]), headers, body)


async def closed(reader: asyncio.StreamReader) -> bool:
    """Wait until the shim has closed the connection; False when it sends more instead."""
    async with asyncio.timeout(20):
        try:
            return await reader.read(1) == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Hold one connection."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def send(address: Address, request: bytes) -> Answer:
    """Send bytes on a connection of their own; a connection that is to close must do so without a reset."""
    async with connected(address) as (reader, writer):
        writer.write(request)
        response = await answer(reader, bodiless=request.startswith(b"HEAD"))
        if response.headers["Connection"] == "close":
            assert await reader.read() == b""
        return response


async def get(address: Address, target: str, method: str = "GET") -> Answer:
    """Ask as a probe does: one request, one connection."""
    return await send(address, f"{method} {target} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n".encode())


@pytest.mark.parametrize(
    ("state", "code", "word"), [(PASSING, 200, "pass"), (WARNING, 200, "warn"), (FAILING, 503, "fail")]
)
async def test_health_is_json_with_the_worst_check_as_its_status(state: Health, code: int, word: str) -> None:
    """The document has exactly the keys of the wire; only a failing check makes it 503."""
    async with shim(state) as address:
        response = await get(address, "/health")
    assert response.status == code
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert json.loads(response.body) == {
        "status": word,
        "mode": "active",
        "epoch": 3,
        "revision": 812,
        "version": "1.2.3",
        "uptime_s": 61.235,
        "checks": {name: {"status": check.status, "message": check.message} for name, check in state.checks.items()},
    }


@pytest.mark.parametrize(
    ("state", "live", "ready"), [(PASSING, 200, 200), (WARNING, 200, 200), (FAILING, 200, 503), (DEAD, 503, 503)]
)
async def test_a_failing_check_fails_readiness_and_not_liveness(state: Health, live: int, ready: int) -> None:
    """Losing the broker must not have the daemon restarted; only not being live does."""
    async with shim(state) as address:
        assert (await get(address, "/livez")).status == live
        assert (await get(address, "/readyz")).status == ready
        assert (await get(address, "/health")).status == ready


async def test_readiness_is_one_line_and_lists_the_checks_when_asked() -> None:
    """The line names what fails; with ``verbose``, also in absolute form, each check has a line before it."""
    state = FAILING._replace(checks={**FAILING.checks, "clock": Check("warn", "is behind")})
    async with shim(state) as address, shim() as ready:
        assert (await get(ready, "/readyz")).body == b"ready\n"
        assert (await get(address, "/readyz")).body == b"not ready: broker\n"
        verbose = await get(address, "/readyz?verbose")
        assert (await get(address, "HTTP://probe:80/readyz?a=b&verbose=true")).body == verbose.body
    assert verbose.status == 503
    assert verbose.body.decode().splitlines() == [
        "[-]broker failed: not connected",
        "[+]store ok: open",
        "[+]clock warning: is behind",
        "not ready: broker",
    ]


async def test_metrics_have_the_media_type_that_scrapers_expect() -> None:
    """The bytes are passed on as they are, with the text format's type."""
    async with shim() as address:
        response = await get(address, "/metrics")
    assert (response.status, response.body) == (200, b"setpoint_up 1\n")
    assert response.headers["Content-Type"] == CONTENT_TYPE


@pytest.mark.parametrize("target", ["/health", "/livez", "/readyz", "/metrics", "/nowhere"])
async def test_head_is_get_without_the_body(target: str) -> None:
    """HEAD has the status and length that GET has, and not a byte after the head."""
    async with shim() as address:
        wanted = await get(address, target)
        async with connected(address) as (reader, writer):
            writer.write(f"HEAD {target} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n".encode())
            response = await answer(reader, bodiless=True)
            assert await closed(reader)
    assert response.status == wanted.status
    assert response.headers["Content-Length"] == str(len(wanted.body)) != "0"


@pytest.mark.parametrize(
    "target", ["/", "/nowhere", "/health/", "/HEALTH", "//health", "/%2e%2e/health", "http://probe"]
)
async def test_other_paths_are_not_found(target: str) -> None:
    """There are four paths and no aliases."""
    async with shim() as address:
        assert (await get(address, target)).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"])
async def test_other_methods_are_not_allowed(method: str) -> None:
    """The answer says which ones are."""
    async with shim() as address:
        response = await get(address, "/health", method)
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000, 405),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n", 405),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 405),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 200),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n", 400),
    ],
)
async def test_a_body_is_not_read_and_ends_the_connection(request_bytes: bytes, status: int) -> None:
    """Whoever sends a body gets the whole answer, and then the connection is closed."""
    async with shim() as address:
        response = await send(address, request_bytes)
    assert (response.status, response.headers["Connection"]) == (status, "close")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the start of TLS
        b"\x10\x16\x00\x04MQTT\x05\x02\x00\x3c",  # MQTT CONNECT
        b"\x00" * 5000,
        b"nonsense\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/9\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",  # no Host
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
async def test_garbage_is_a_bad_request(garbage: bytes) -> None:
    """What is not HTTP/1.1 gets 400 and the end of its connection; the next probe is answered."""
    async with shim() as address:
        response = await send(address, garbage)
        assert (response.status, response.headers["Connection"]) == (400, "close")
        assert (await get(address, "/livez")).status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"a" * 100_000,
    ],
)
async def test_a_head_that_is_too_large_is_refused(head: bytes) -> None:
    """A request line or header fields of 100 kB get 431, which arrives although not all of them was read."""
    async with shim() as address:
        response = await send(address, head)
        assert (response.status, response.headers["Connection"]) == (431, "close")
        assert (await get(address, "/livez")).status == 200


async def test_requests_on_one_connection_are_answered_in_order() -> None:
    """Pipelined requests, of both methods and with a miss among them, each get their answer."""
    targets = [("GET", "/livez", 200), ("HEAD", "/health", 200), ("GET", "/nowhere", 404), ("GET", "/readyz", 200)]
    async with shim() as address, connected(address) as (reader, writer):
        for _ in range(2):
            writer.writelines(
                f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for method, target, _ in targets
            )
            for method, _, status in targets:
                response = await answer(reader, bodiless=method == "HEAD")
                assert (response.status, response.headers["Connection"]) == (status, None)


async def test_a_connection_has_a_last_request() -> None:
    """Keep-alive is bounded: the last answer says so and the connection ends."""
    async with shim() as address, connected(address) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * (MAX_REQUESTS + 1))
        responses = [await answer(reader) for _ in range(MAX_REQUESTS)]
        assert [response.headers["Connection"] for response in responses] == [None] * (MAX_REQUESTS - 1) + ["close"]
        assert await closed(reader)


@pytest.mark.parametrize("request_bytes", [b"GET /livez HTTP/1.0\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_client_that_ends_its_side_gets_its_answer(request_bytes: bytes) -> None:
    """``nc -N`` half-closes after the request; HTTP/1.0 needs no Host."""
    async with shim() as address, connected(address) as (reader, writer):
        writer.write(request_bytes)
        writer.write_eof()
        assert (await answer(reader)).body == b"live\n"
        assert await closed(reader)


@pytest.mark.parametrize("start", [b"", b"GET /livez HTT", b"GET /livez HTTP/1.1\r\nHost: x\r\n"])
async def test_a_request_that_is_not_complete_by_the_deadline_ends_its_connection(start: bytes) -> None:
    """Slow senders are disconnected, at their first request as at a later one; others are served meanwhile."""
    async with shim(deadline_s=0.2) as address, connected(address) as (fresh, slow), connected(address) as (used, kept):
        slow.write(start)
        kept.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + start)
        assert (await answer(used)).status == 200
        assert (await get(address, "/livez")).status == 200
        assert await closed(fresh)
        assert await closed(used)


async def test_a_client_that_does_not_read_is_disconnected() -> None:
    """An answer that nobody takes is given up at the deadline."""
    asked = asyncio.Event()

    def large() -> bytes:
        asked.set()
        return b"x" * 20_000_000

    async with shim(metrics=large, deadline_s=0.2) as address, connected(address) as (reader, writer):
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(asked.wait(), 20)
        held = [task for task in asyncio.all_tasks() if task.get_name().startswith("http ")]
        await asyncio.wait_for(asyncio.gather(*held, return_exceptions=True), 20)
        assert (await get(address, "/livez")).status == 200
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await answer(reader)


@pytest.mark.parametrize("first", [b"", b"GET /health HT"])
async def test_a_probe_is_answered_while_200_idle_connections_are_held(first: bytes) -> None:
    """Idle and stalled connections make room for a new one; they cannot keep a probe out."""
    async with shim() as address:
        held = [await asyncio.open_connection(*address) for _ in range(200)]
        for _, writer in held:
            writer.write(first)
        try:
            for _ in range(3):
                assert (await get(address, "/readyz")).status == 200
        finally:
            for _, writer in held:
                writer.transport.abort()


async def test_the_connection_longest_without_an_answer_makes_room() -> None:
    """A scraper that asks now and then keeps its connection; of the idle ones the oldest goes."""
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    async with shim(max_connections=2) as address, connected(address) as (scraper, asks):
        async with connected(address) as (idle, _):
            asks.write(request)
            assert (await answer(scraper)).status == 200
            assert (await get(address, "/livez")).status == 200
            assert await closed(idle)
        asks.write(request)
        assert (await answer(scraper)).status == 200


@pytest.mark.parametrize("sent", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 100_000])
async def test_a_reset_connection_is_nobody_s_concern(sent: bytes) -> None:
    """A client that resets its connection at any point leaves no trace in the log, and the shim goes on."""
    async with shim(metrics=lambda: b"x" * 1_000_000) as address:
        for _ in range(20):
            with socket.create_connection(address) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() resets
                client.sendall(sent)
        assert (await get(address, "/livez")).status == 200


async def test_a_scrape_that_fails_is_logged_and_harms_nobody_else() -> None:
    """An exception from a callable costs its sender the connection and is logged."""

    def broken() -> bytes:
        raise ValueError("hunter2")

    async with shim(metrics=broken, logs=["http_request_failed"]) as address, connected(address) as (reader, writer):
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await closed(reader)
        assert (await get(address, "/livez")).status == 200


async def test_leaving_the_context_closes_everything() -> None:
    """Connections that are open at the end are closed, no task stays, and the port is free at once."""
    async with asyncio.timeout(20), shim(deadline_s=600) as address:
        held = [await asyncio.open_connection(*address) for _ in range(10)]
        held[0][1].write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await answer(held[0][0])).status == 200
    assert all([await closed(reader) for reader, _ in held])
    for _, writer in held:
        writer.transport.abort()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    async with serve(*address, health=passing, metrics=no_metrics) as again:
        assert again == address


async def test_ipv6_is_served() -> None:
    """An IPv6 address works like any other."""
    async with shim(host="::1") as address:
        assert address[0] == "::1"
        assert (await get(address, "/livez")).status == 200


async def test_an_address_that_cannot_be_used_is_one_clear_line() -> None:
    """A taken port, an unknown name and an impossible port are errors that name the address."""
    async with shim() as (host, port):
        with pytest.raises(
            ListenError, match=f"^cannot listen for HTTP on {host} port {port}: Address already in use$"
        ):
            await serve(host, port, health=passing, metrics=no_metrics).__aenter__()
    for host, port in [("no-such-host.invalid", 0), ("127.0.0.1", 70_000), ("a" * 70, 0), ("192.0.2.1", 0)]:
        with pytest.raises(ListenError, match=f"^cannot listen for HTTP on {host} port {port}: [^\n]+$"):
            await serve(host, port, health=passing, metrics=no_metrics).__aenter__()
