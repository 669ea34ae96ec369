"""What ``setpoint doctor`` looks at, one thing after the other. What needs something that failed is left out."""

import asyncio
import contextlib
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from setpoint.cli.connection import NO_TOKEN, Json, Refused, Session, run, settings_of
from setpoint.cli.contexts import Target, masked
from setpoint.cli.exits import Exit, Failed
from setpoint.cli.options import Options
from setpoint.cli.times import duration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from setpoint.link import Link, Received
    from setpoint.settings import Settings
    from setpoint_contracts import Token

CODES = {
    "settings": Exit.USAGE,
    "token": Exit.DENIED,
    "broker": Exit.UNREACHABLE,
    "key": Exit.DENIED,
    "daemon": Exit.UNREACHABLE,
    "clock": Exit.DENIED,
    "permissions": Exit.DENIED,
    "round trip": Exit.UNREACHABLE,
    "mode": Exit.REFUSED,
}
"""Every check, and the exit code when it is the first to fail."""

_ROUNDS = 5
_SLOW_S = 0.5
_RETAINED_S = 1.0
_CLOCK_WARN_S = 5.0
_SOON_S = 7 * 86_400.0
_OTHERS_BITS = 0o077


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found, and what to do if that is not well."""

    check: str
    result: Literal["ok", "warn", "fail"]
    found: str
    todo: str | None = None


def examine(options: Options) -> list[Check]:
    """Look at everything, in the order in which one thing needs the other."""
    try:
        found, settings = settings_of(options)
    except Failed as error:
        return [Check("settings", "fail", error.format_message(), error.todo or "correct it")]
    checks = [_settings(found, settings), _token(found, settings.token)]
    reached, heard = asyncio.run(_reach(settings, options.timeout_s))
    checks.append(reached)
    if reached.result == "fail":
        return checks
    if (keys := heard.get(settings.topics.keys)) is not None:
        checks.append(_key(settings, keys))
    if settings.token is None:
        return checks
    try:
        return [*checks, *run(options, _converse)]
    except Refused as error:
        found_now = _no_answer(error, heard.get(settings.topics.health))
        return [*(one for one in checks if one.check != found_now.check), found_now]


def _settings(found: Target, settings: "Settings") -> Check:
    broker = masked(found.broker) or f"{settings.broker} (the default)"
    where = f", context {found.context}" if found.context else ""
    prefix = f", topics below {settings.topics.prefix}" if settings.topics.prefix else ""
    return Check("settings", "ok", f"broker {broker}{prefix}{where}")


def _token(found: Target, token: "Token | None") -> Check:
    if token is None or found.token is None:
        return Check("token", "fail", "none is given, and every command is signed with one", NO_TOKEN)
    said = f"{token.kid} of {token.name}, {token.role}, {token.alg}"
    path = Path(found.token).expanduser()
    if path.stat().st_mode & _OTHERS_BITS:
        return Check("token", "warn", f"{said}; others can read {path}", f"chmod 600 {path}")
    if token.expires_at is not None:
        from setpoint_contracts.timestamps import seconds

        left = seconds(token.expires_at) - time.time()
        if left <= 0:
            return Check("token", "fail", f"{said}; it expired at {token.expires_at}", "ask for a new one")
        result: Literal["ok", "warn"] = "ok" if left > _SOON_S else "warn"
        todo = None if result == "ok" else f"setpoint token rotate {token.kid} --out FILE"
        return Check("token", result, f"{said}, for another {duration(left)}", todo)
    return Check("token", "ok", said)


async def _reach(settings: "Settings", timeout_s: float) -> tuple[Check, dict[str, Json]]:
    """Connect to the broker, and read what is retained of the daemon's health and keys: topic to document."""
    topics = (settings.topics.health, settings.topics.keys)
    heard: dict[str, Json] = {}
    all_heard = asyncio.Event()

    def hear(received: "Received") -> None:
        heard[received.topic] = _read(received.payload)
        if len(heard) == len(topics):
            all_heard.set()

    async with _linked(settings) as link:
        begun = time.monotonic()
        for topic in topics:
            link.on_message(topic, hear)
            await link.subscribe(topic)
        if not await _in_time(link.wait_connected(), timeout_s):
            why = link.last_error or f"it does not answer in {timeout_s:g} s"
            return Check("broker", "fail", f"{settings.broker}: {why}", _what_of(why, settings)), {}
        took = duration(time.monotonic() - begun)
        await _in_time(all_heard.wait(), _RETAINED_S)
    return Check("broker", "ok", f"{settings.broker} takes connections, in {took}"), heard


async def _in_time(wait: "Awaitable[object]", timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await wait
    except TimeoutError:
        return False
    return True


@contextlib.asynccontextmanager
async def _linked(settings: "Settings") -> "AsyncIterator[Link]":
    from setpoint.link import Link

    link = Link(settings.broker)
    running = asyncio.create_task(link.run(), name="doctor link")
    try:
        yield link
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _read(payload: bytes) -> Json:
    try:
        found = json.loads(payload)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _key(settings: "Settings", keys: Json) -> Check:
    """Compare the daemon's key with the one that is pinned on this machine, or given."""
    from setpoint.cache import Cache, RefusedError

    broker = settings.broker
    cache = Cache(settings.cache_dir, broker.host, broker.port, settings.topics.prefix)
    try:
        pinned = settings.keys or cache.keys()
    except RefusedError as error:
        return Check("key", "warn", str(error), f"look at it, or remove it: rm -r {cache.directory}")
    if not pinned:
        return Check("key", "ok", "none is pinned on this machine yet; the first that is seen will be")
    of_daemon = [jwk for jwk in keys.get("keys", ()) if isinstance(jwk, dict)]
    known = {jwk["x"] for jwk in pinned} & {jwk.get("x") for jwk in of_daemon}
    kids = ", ".join(str(jwk.get("kid")) for jwk in of_daemon)
    if known:
        return Check("key", "ok", f"{kids} is the daemon's, and believed on this machine")
    found = f"the daemon's is {kids}, and another is pinned on this machine: what it signs is not believed"
    place = "SETPOINT_KEYS=FILE with the new one" if settings.keys else f"rm -r {cache.directory}"
    return Check("key", "fail", found, f"if the daemon has a new store: {place}")


def _what_of(why: str, settings: "Settings") -> str:
    lowered = why.lower()
    if "refuses it" in lowered or "authoriz" in lowered:
        return "give user and password in the URL: mqtt://USER:PASSWORD@HOST"
    if "certificate" in lowered:
        return "give the broker's authority: SETPOINT_BROKER_CA=FILE, or `setpoint context add NAME --ca FILE`"
    if "refused" in lowered:
        return "is the broker running there, and is this its port? (systemctl status mosquitto)"
    spoken = [
        *(["TLS"] if settings.broker.tls is not None else []),
        *(["WebSocket"] if settings.broker.transport == "websockets" else []),
    ]
    if spoken:
        return f"does this port speak {' and '.join(spoken)}? Check host and port, and the network between"
    return "check host and port, and the network between; does this port want TLS (mqtts://)?"


def _no_answer(error: Refused, health: Json | None) -> Check:
    if error.code != "unreachable":
        check = (
            "token" if error.code.startswith("token_") else "clock" if "server_time" in error.details else "permissions"
        )
        return Check(check, "fail", error.format_message(), error.todo)
    if not health:
        todo = "start it (`systemctl status setpointd`), or give the --prefix that it uses"
        return Check("daemon", "fail", "no daemon has ever been on this broker, under this topic prefix", todo)
    if not health.get("ok"):
        todo = "start it: `systemctl status setpointd`, `journalctl -u setpointd`"
        return Check("daemon", "fail", f"it is offline since {health.get('timestamp')}, or later", todo)
    todo = "is the token one of this daemon's (`setpointd token list`)? Does the broker's acl let you publish and read?"
    return Check("daemon", "fail", "it is online, but does not answer this token", todo)


async def _converse(session: Session) -> list[Check]:
    """Ask the daemon, several times."""
    took: list[float] = []
    for _ in range(_ROUNDS):
        begun, clock = time.monotonic(), time.time()
        info = await session.call("info")
        took.append(time.monotonic() - begun)
    ahead_s = _ahead(info["server_time"], clock + took[-1] / 2)
    median, worst = statistics.median(took), max(took)
    slow = median > _SLOW_S
    return [
        Check("daemon", "ok", f"{info['product']} {info['version']}, protocol {info['protocol']}"),
        _clock(ahead_s, info["limits"]["max_clock_skew_s"]),
        _permissions(info),
        Check(
            "round trip",
            "warn" if slow else "ok",
            f"{duration(median)} (median of {_ROUNDS}; the longest {duration(worst)})",
            "look at the network, and at the load of the daemon's machine" if slow else None,
        ),
        _mode(await session.call("status")),
    ]


def _ahead(server_time: str, clock: float) -> float:
    from setpoint_contracts.timestamps import seconds

    return clock - seconds(server_time)


def _clock(ahead_s: float, allowed_s: float) -> Check:
    side = "ahead of" if ahead_s > 0 else "behind"
    found = f"this machine is {duration(abs(ahead_s))} {side} the daemon's; up to {allowed_s:g} s ahead is accepted"
    if abs(ahead_s) <= _CLOCK_WARN_S:
        return Check("clock", "ok", f"within {duration(abs(ahead_s))} of the daemon's")
    todo = "set the clock that is wrong: `timedatectl set-ntp true`"
    return Check("clock", "fail" if ahead_s > allowed_s else "warn", found, todo)


def _permissions(info: Json) -> Check:
    from setpoint_contracts import Role

    words = {"config.read": "read", "config.write": "write", "config.delete": "delete", "admin.manage": "administer"}
    may = {permission.value for permission in Role(info["role"]).permissions}
    allowed = ", ".join(word for permission, word in words.items() if permission in may)
    where = f", of the services {', '.join(info['services'])} only" if info.get("services") else ""
    return Check("permissions", "ok", f"{info['principal']} is {info['role']}: may {allowed}{where}")


def _mode(status: dict[str, Any]) -> Check:
    mode, reason = status["mode"], status.get("reason")
    said = f"{mode}{f' ({reason})' if reason else ''}, epoch {status['epoch']}, revision {status['revision']}"
    if mode == "read_only":
        todo = "decide which store is the truth (README, `Running it for good`); then: setpoint call epoch/advance"
        return Check("mode", "fail", said, todo)
    if status.get("oversized_documents"):
        many = status["oversized_documents"]
        todo = "raise max_packet_size of the broker, or make those configs smaller"
        return Check("mode", "warn", f"{said}; {many} documents are larger than the broker takes", todo)
    return Check("mode", "ok", said)
