"""The HTTP shim (wire §8): health, liveness, readiness and metrics for probes and scrapers, and nothing else.

Rules:

- Every connection has one task. They stand in no TaskGroup: a failing scrape must not cancel the daemon.
- A request has a deadline: within it the head must have arrived and the answer must have been taken.
- The number of connections is bounded. When it is reached, the connection that has gone longest without an answered
  request makes room: idle connections cannot keep a probe out, and a scraper that works is the last to go.
- What arrives before a request is complete is bounded too, and bodies are never read: whoever sends one is answered and
  disconnected.
- There is no Date header, because there is no clock here (RFC 9110, 6.6.1).
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Literal, NamedTuple

import h11

from setpointd.log import logger
from setpointd.metrics import CONTENT_TYPE as METRICS_TYPE

REQUEST_DEADLINE_S = 5.0
"""Seconds for one request, from the end of the one before it (or the connection's start) to its answer's last byte.
Closing has as long again."""
MAX_CONNECTIONS = 64
"""Connections held open at once."""
MAX_REQUESTS = 100
"""Requests answered on one connection; the last answer says ``Connection: close``."""
MAX_HEAD_BYTES = 8192
"""Request line and header fields, in bytes; more is answered with 431 (give or take one read)."""

_READ_BYTES = 4096
_TEXT = "text/plain; charset=utf-8"
_AUTHORITY = re.compile(rb"^https?://[^/?]*", re.IGNORECASE)  # absolute-form targets: RFC 9112, 3.2.2

Status = Literal["pass", "warn", "fail"]
_SEVERITY: tuple[Status, ...] = ("pass", "warn", "fail")
_VERDICT = {"pass": "[+]{} ok: {}", "warn": "[+]{} warning: {}", "fail": "[-]{} failed: {}"}


class Check(NamedTuple):
    """What one part of the daemon says of itself; ``message`` is for people and holds no secret and no config value."""

    status: Status
    message: str


class Health(NamedTuple):
    """The daemon's state at one moment; ``live`` is False only when a restart is the way out."""

    mode: str
    epoch: int
    revision: int
    version: str
    uptime_s: float
    checks: Mapping[str, Check]
    live: bool = True

    @property
    def status(self) -> Status:
        """The worst of the checks; ``fail`` when not live."""
        if not self.live:
            return "fail"
        return max((check.status for check in self.checks.values()), key=_SEVERITY.index, default="pass")

    @property
    def ready(self) -> bool:
        """Whether commands are served: live, and no check fails."""
        return self.status != "fail"


class ListenError(OSError):
    """The address cannot be listened on; the message is one line that names it."""


@asynccontextmanager
async def serve(
    host: str,
    port: int,
    *,
    health: Callable[[], Awaitable[Health]],
    metrics: Callable[[], Awaitable[bytes]],
    deadline_s: float = REQUEST_DEADLINE_S,
    max_connections: int = MAX_CONNECTIONS,
) -> AsyncIterator[tuple[str, int]]:
    """Answer HTTP on ``host`` (a name, or an IPv4 or IPv6 address without brackets) and yield the bound address.

    Port 0 takes a free port. ``health`` and ``metrics`` are awaited for every request, and must be quick; what they
    raise is logged and ends the connection. Leaving the context closes every connection. Raises ListenError.
    """
    connections = _Connections(partial(_respond, health=health, metrics=metrics), deadline_s, max_connections)
    try:
        server = await asyncio.start_server(connections.accept, host, port, limit=_READ_BYTES)
    except OSError as exc:
        number = exc.errno or 0  # a resolver's are negative
        reason = os.strerror(number) if number > 0 else exc.strerror or "no such address"
        raise ListenError(f"cannot listen for HTTP on {host} port {port}: {reason}") from exc
    except (OverflowError, UnicodeError) as exc:
        raise ListenError(f"cannot listen for HTTP on {host} port {port}: no such address") from exc
    try:
        bound_host, bound_port, *_ = server.sockets[0].getsockname()
        yield bound_host, bound_port
    finally:
        server.close()
        await connections.close()
        await server.wait_closed()  # only now: since Python 3.12 it waits for the connections


class _Response(NamedTuple):
    status: HTTPStatus
    body: str | bytes
    media_type: str = _TEXT
    allow: str = ""


_NOT_FOUND = _Response(HTTPStatus.NOT_FOUND, "not found: try /health, /livez, /readyz or /metrics\n")
_NOT_ALLOWED = _Response(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n", allow="GET, HEAD")
_BAD_REQUEST = _Response(HTTPStatus.BAD_REQUEST, "not an HTTP/1.1 request\n")
_TOO_LARGE = _Response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "request line and headers are too large\n")


async def _respond(
    request: h11.Request,
    *,
    health: Callable[[], Awaitable[Health]],
    metrics: Callable[[], Awaitable[bytes]],
) -> _Response:
    if request.method not in {b"GET", b"HEAD"}:
        return _NOT_ALLOWED
    path, _, query = _AUTHORITY.sub(b"", request.target).partition(b"?")
    match path:
        case b"/health":
            return _health(await health())
        case b"/livez":
            return _livez(await health())
        case b"/readyz":
            return _readyz(await health(), verbose=any(p.partition(b"=")[0] == b"verbose" for p in query.split(b"&")))
        case b"/metrics":
            return _Response(HTTPStatus.OK, await metrics(), METRICS_TYPE)
        case _:
            return _NOT_FOUND


def _ok_when(condition: bool) -> HTTPStatus:  # noqa: FBT001 - its name is the condition's
    return HTTPStatus.OK if condition else HTTPStatus.SERVICE_UNAVAILABLE


def _health(state: Health) -> _Response:
    document = {
        "status": state.status,
        "mode": state.mode,
        "epoch": state.epoch,
        "revision": state.revision,
        "version": state.version,
        "uptime_s": round(state.uptime_s, 3),
        "checks": {name: check._asdict() for name, check in state.checks.items()},
    }
    return _Response(_ok_when(state.status != "fail"), json.dumps(document) + "\n", "application/json")


def _livez(state: Health) -> _Response:
    return _Response(_ok_when(state.live), "live\n" if state.live else "not live\n")


def _readyz(state: Health, *, verbose: bool) -> _Response:
    failing = [name for name, check in state.checks.items() if check.status == "fail"] or ["not live"]
    lines = ["ready" if state.ready else f"not ready: {', '.join(failing)}"]
    if verbose:
        lines[:0] = [_VERDICT[check.status].format(name, check.message) for name, check in state.checks.items()]
    return _Response(_ok_when(state.ready), "\n".join(lines) + "\n")


class _Connections:
    """The open connections: their tasks, their number, and how they end."""

    def __init__(self, respond: Callable[[h11.Request], Awaitable[_Response]], deadline_s: float, limit: int) -> None:
        self._respond = respond
        self._deadline_s = deadline_s
        self._limit = limit
        self._closed = False
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order of their last answered request

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a new connection; the stalest one makes room for it when there are too many."""
        if self._closed:  # accepted while the server was closing
            writer.transport.abort()
            return
        if len(self._tasks) >= self._limit:
            stalest = next(iter(self._tasks))
            del self._tasks[stalest]
            stalest.cancel()
        task = asyncio.create_task(self._converse(reader, writer), name=f"http {writer.get_extra_info('peername')}")
        self._tasks[task] = None
        task.add_done_callback(partial(self._ended, writer))

    async def close(self) -> None:
        """Drop every connection, and wait until their tasks have ended."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        writer.transport.abort()  # here, because a task that is cancelled before its first step runs no code of its own
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger().error("http_request_failed", exc_info=exc)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)  # drain() is to wait until the kernel has everything
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        try:
            for left in reversed(range(MAX_REQUESTS)):
                async with asyncio.timeout(self._deadline_s):
                    more = await self._exchange(conn, reader, writer, last=left == 0)
                if not more:
                    break
                self._answered()
                await asyncio.sleep(0)  # pipelined requests are there already: let others have their turn
            async with asyncio.timeout(self._deadline_s):
                await _linger(reader, writer)
        except OSError:  # the peer is gone, or a deadline has passed (TimeoutError is one too): nobody to tell
            return

    def _answered(self) -> None:
        task = asyncio.current_task()
        if task in self._tasks:
            del self._tasks[task]
            self._tasks[task] = None

    async def _exchange(
        self,
        conn: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        last: bool,
    ) -> bool:
        """Answer one request; False when there was none, or when there cannot be another one."""
        with_body = True
        try:
            request = await _receive(conn, reader)
            if request is None:
                return False
            with_body = request.method != b"HEAD"
            last = last or not isinstance(conn.next_event(), h11.EndOfMessage)
            response = await self._respond(request)
        except h11.RemoteProtocolError as exc:
            too_large = exc.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            response, last = _TOO_LARGE if too_large else _BAD_REQUEST, True
        writer.write(_encode(conn, response, with_body=with_body, last=last))
        await writer.drain()
        if conn.our_state is not h11.DONE or conn.their_state is not h11.DONE:
            return False
        conn.start_next_cycle()
        return True


async def _receive(conn: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """Wait for the next request's head; None when the peer has finished."""
    while (event := conn.next_event()) is h11.NEED_DATA:
        conn.receive_data(await reader.read(_READ_BYTES))
    return event if isinstance(event, h11.Request) else None


def _encode(conn: h11.Connection, response: _Response, *, with_body: bool, last: bool) -> bytes:
    body = response.body.encode() if isinstance(response.body, str) else response.body
    headers = [("Content-Type", response.media_type), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    if response.allow:
        headers.append(("Allow", response.allow))
    if last:
        headers.append(("Connection", "close"))
    events: list[h11.Event] = [
        h11.Response(status_code=response.status, reason=response.status.phrase, headers=headers),
        *([h11.Data(data=body)] if with_body else []),
        h11.EndOfMessage(),
    ]
    return b"".join(conn.send(event) or b"" for event in events)


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read what is still under way: closing on unread input takes the answer from the peer (RFC 9112, 9.6)."""
    writer.write_eof()
    while await reader.read(_READ_BYTES):
        pass
