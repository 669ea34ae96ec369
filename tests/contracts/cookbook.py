"""Write contracts/cookbook.md: every command with a request and its reply, made by running them in this order.

    .venv/bin/python -m tests.contracts.cookbook

starts a Mosquitto of this machine and the installed daemon with an empty store. ``tests/integration/test_cookbook.py``
does the same and compares, so the page is true. To add to it, add to ``RECIPES``.
"""

import asyncio
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.brokers import LocalBroker, make_certificate
from tests.caller import Reachable, calling
from tests.contracts.generate import CONTRACTS
from tests.daemon import Daemon, make_data_dir

PAGE = CONTRACTS / "cookbook.md"
WIDTH = 128

Params = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """One request. ``params`` may be made of what was answered so far: the last result of each command by its name.

    Without a ``heading`` it stands under that of the one before.
    """

    command: str
    sentence: str
    params: Params | Callable[[dict[str, Any]], Params]
    heading: str = ""
    report: Params | None = None
    """What an instance of a service has published before it, retained."""


STT = {"model": "small", "threads": 2}
RECIPES = [
    Recipe("info", "What is this, what does it take, and who am I to it?", {}, heading="The daemon"),
    Recipe(
        "set",
        "A first config. `expected_version` 0: only if nobody has made one yet.",
        {"service": "stt", "config": STT, "expected_version": 0, "reason": "first try"},
        heading="Configs",
    ),
    Recipe(
        "patch",
        "Change one key and remove another, at the version that was read.",
        {"service": "stt", "patch": {"threads": 4, "model": None}, "expected_version": 1},
    ),
    Recipe(
        "set",
        "At a version that is no more, nothing is written; the refusal has what there is now.",
        {"service": "stt", "config": STT, "expected_version": 1},
    ),
    Recipe("get", "The newest version.", {"service": "stt"}),
    Recipe("get", "One key of an old version.", {"service": "stt", "version": 1, "key": "model"}),
    Recipe("get", "What a service was at a revision of the store.", {"service": "stt", "revision": 1}),
    Recipe(
        "apply",
        "Several changes, all of them or none, in one revision; here only tried.",
        {
            "changes": [
                {"op": "set", "service": "tts", "config": {"voice": "alba"}, "expected_version": 0},
                {"op": "patch", "service": "stt", "patch": {"language": "de"}},
            ],
            "dry_run": True,
        },
    ),
    Recipe(
        "apply",
        "The same for good.",
        {
            "changes": [
                {"op": "set", "service": "tts", "config": {"voice": "alba"}, "expected_version": 0},
                {"op": "patch", "service": "stt", "patch": {"language": "de"}},
            ],
            "reason": "a second language",
        },
    ),
    Recipe("list", "All services, without their configs.", {}),
    Recipe("list", "A page; `next` goes into `after`.", {"limit": 1}),
    Recipe("delete", "A tombstone; the history stays.", {"service": "tts"}),
    Recipe("get", "A deleted service is not there, and the refusal has its tombstone.", {"service": "tts"}),
    Recipe("set", "What does not fit is named.", {"service": "stt", "config": {"9": 1}, "color": "red"}),
    Recipe(
        "profile/save",
        "Keep what all services hold, under a name.",
        {"name": "night shift", "description": "quiet"},
        heading="Profiles",
    ),
    Recipe("set", "Then something changes.", {"service": "stt", "config": {"threads": 8}}),
    Recipe("profile/list", "What is kept?", {}),
    Recipe("profile/get", "With all configs.", {"name": "night shift"}),
    Recipe(
        "profile/load",
        "Bring every service back to it, in one revision; `dry_run` would only show it.",
        {"name": "night shift", "reason": "it is late"},
    ),
    Recipe("profile/delete", "The services stay as they are.", {"name": "night shift"}),
    Recipe(
        "schema/set",
        "From now on every write of the service is held against it.",
        {
            "service": "stt",
            "schema": {
                "type": "object",
                "properties": {"language": {"enum": ["de", "en"]}, "threads": {"type": "integer", "maximum": 8}},
                "required": ["language"],
            },
        },
        heading="Schemas",
    ),
    Recipe(
        "patch",
        "What does not fit is told with JSON Pointers, and nothing is written.",
        {"service": "stt", "patch": {"language": "nl", "threads": 16}},
    ),
    Recipe("schema/get", "The schema of a service.", {"service": "stt"}),
    Recipe("schema/list", "Which services have one?", {}),
    Recipe("schema/delete", "Configs are not judged any more.", {"service": "stt"}),
    Recipe(
        "schema/set",
        "A property that is a secret.",
        {"service": "sync", "schema": {"properties": {"password": {"type": "string", "writeOnly": True}}}},
        heading="Secrets",
    ),
    Recipe(
        "set",
        "Its value goes in, and never comes out again: this is what everybody is shown from now on.",
        {"service": "sync", "config": {"user": "pi", "password": "correct horse"}},
    ),
    Recipe(
        "set",
        "What was read can be written back; the secret stays.",
        lambda said: {"service": "sync", "config": {**said["set"]["config"], "user": "pi-2"}},
    ),
    Recipe(
        "get",
        "But for who may write it and asks. The values are sealed for the caller.",
        {"service": "sync", "reveal": True},
    ),
    Recipe(
        "token/create",
        "A token with a secret, which comes sealed; [commands.md](commands.md) says how to open it.",
        {"name": "vision", "role": "operator", "services": ["vision*"], "ttl_s": 7_776_000},
        heading="Tokens",
    ),
    Recipe(
        "token/rotate",
        "Another one in its place; the old one counts for ten minutes more.",
        lambda said: {"kid": said["token/create"]["kid"], "grace_s": 600},
    ),
    Recipe(
        "token/create",
        "A token for a key pair: its owner gives the public half.",
        {
            "name": "dash",
            "role": "viewer",
            "alg": "Ed25519",
            "public_jwk": {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                "kid": "dash-2026",
            },
        },
    ),
    Recipe("token/revoke", "From now on it is refused.", {"kid": "dash-2026"}),
    Recipe("token/list", "Who may do what; never a secret.", {}),
    Recipe(
        "search",
        "Where does a word stand, in keys or in values?",
        {"query": "SMALL"},
        heading="History",
    ),
    Recipe("history/versions", "Which versions are there of it?", {"service": "stt", "limit": 2}),
    Recipe("history/query", "Who changed which key, when, and why?", {"service": "stt", "key": "threads", "limit": 2}),
    Recipe(
        "diff",
        "What has changed between two versions?",
        {"service": "stt", "from": {"version": 1}, "to": {"version": 2}},
    ),
    Recipe(
        "history/restore",
        "What going back would do. Without `dry_run` it makes new versions; nothing is ever rewound.",
        {"services": ["stt"], "version": 1, "reason": "as it was", "dry_run": True},
    ),
    Recipe(
        "history/prune",
        "Keep the newest two versions of each service, and all that was in force within 30 days: nothing is as old.",
        {"keep_days": 30, "keep_versions": 2},
        heading="Retention",
    ),
    Recipe("history/prune", "Keep the newest two, however young the others are.", {"keep_versions": 2}),
    Recipe("get", "What was removed is told from what never was.", {"service": "stt", "revision": 1}),
    Recipe(
        "applied",
        "Who runs what? One instance has said so, and has fallen behind.",
        {"service": "stt"},
        heading="What runs",
        report={
            "service": "stt",
            "instance": "pi-1",
            "version": 2,
            "revision": 2,
            "status": "applied",
            "at": "2026-01-01T00:00:00.000Z",
        },
    ),
    Recipe(
        "audit/query",
        "Who did what to a service, the newest first; `next` goes into `before`.",
        {"service": "stt", "limit": 2},
        heading="Audit",
    ),
    Recipe("status", "How does it do?", {}, heading="Operating"),
    Recipe(
        "epoch/advance",
        "Make this store the truth, if it is still at the epoch that `status` told.",
        lambda said: {"expected_epoch": said["status"]["epoch"]},
    ),
]

HEAD = """# Cookbook

Every command with a request and its reply. A program ran them one after the other on an empty store and wrote this
page, and a test does so again. What differs each time, such as times, ids and epochs, is shown with values made up.

The first block is what goes into `params`, to be signed for the topic `config/cmd/{command}` as [README.md](README.md)
says; the second is the reply. [commands.md](commands.md) says what each command takes.
"""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_FIRST_S = 1_795_428_000  # 2026-11-23T10:00:00Z
_FIRST = datetime.fromisoformat("2026-11-23T10:00:00.000Z")
_BEFORE = _FIRST - timedelta(hours=1)
_FIXED = {
    "uptime_s": 86400.0,
    "oldest_job_s": 0.0,
    "outbox_pending": 0,
    "store_bytes": 131_072,
    "last_used_at": None,
}
"""Members that never come out the same twice."""
_RANDOM = [
    (re.compile(r"tok_[0-9a-f]{16}"), "tok_{:016x}"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "00000000-0000-4000-8000-{:012x}"),
    (re.compile(r'(?<="\$secret": ")[0-9a-f]{8}'), "{:08x}"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "{:064x}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]*\.[\w-]+\.[\w-]+\.[\w-]+"), "eyJ….….….…{:x}"),
]
"""Ids, tags, hashes and sealed keys, and how the first, second, … of them is shown."""


class Disguise:
    """Puts example values in the place of what differs from run to run; the same value is shown the same everywhere."""

    def __init__(self) -> None:
        self._shown: list[dict[str, str]] = [{} for _ in _RANDOM]
        self._times: dict[str, str] = {}
        self._epochs: list[int] = []
        self._steps = 0

    def reply(self, reply: dict[str, Any]) -> Any:
        """Disguise a reply, a second after the one before."""
        now, at = datetime.fromisoformat(reply["ts"]), _FIRST + timedelta(seconds=self._steps)
        self._steps += 1
        self._times.setdefault(reply["ts"], _rfc3339(at))
        if reply["epoch"] not in self._epochs:
            self._epochs.append(reply["epoch"])
        for time in set(_TIME.findall(json.dumps(reply))) - self._times.keys():
            ahead = datetime.fromisoformat(time) - now
            self._times[time] = _rfc3339(at + ahead if ahead > timedelta() else _BEFORE)
        return {**self.params(reply), "ts": _rfc3339(at)}

    def params(self, value: Any) -> Any:
        """Disguise what was answered before."""
        text = json.dumps(_fixed(value), ensure_ascii=False)
        for (pattern, form), shown in zip(_RANDOM, self._shown, strict=True):
            for found in pattern.findall(text):
                shown.setdefault(found, form.format(len(shown) + 1))
            for found, example in shown.items():
                text = text.replace(found, example)
        text = _TIME.sub(lambda match: self._times[match[0]], text)
        for place, epoch in enumerate(self._epochs):
            text = re.sub(rf"\b{epoch}\b", str(_FIRST_S + 60 * place), text)
        return json.loads(text)


async def page(daemon: Reachable) -> str:
    """Run all recipes on a daemon with an empty store and write the page."""
    disguise = Disguise()
    said: dict[str, Any] = {}
    text = HEAD
    async with calling(daemon) as admin:
        for number, recipe in enumerate(RECIPES, 1):
            params = recipe.params if isinstance(recipe.params, dict) else recipe.params(said)
            if recipe.report is not None:
                topic = daemon.topics.applied(recipe.report["service"], recipe.report["instance"])
                await admin.mqtt.publish(topic, json.dumps(recipe.report), qos=1, retain=True)
            reply = await admin.call(recipe.command, params, jti=f"request-{number}")
            said[recipe.command] = reply.result
            shown = disguise.reply(reply.model_dump(mode="json", exclude_unset=True))
            heading = f"\n## {recipe.heading}\n" if recipe.heading else ""
            blocks = (f"```json\n{pretty(value)}\n```\n" for value in (disguise.params(params), shown))
            text += "\n".join([heading, f"**`{recipe.command}`** {recipe.sentence}\n", *blocks])
    return text


def pretty(value: Any, indent: str = "", room: int = WIDTH) -> str:
    """Write JSON on one line where it has room, else a member or an item a line; short items share lines."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) <= room or not isinstance(value, dict | list):
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        names = [f"{json.dumps(name)}: " for name in value]
        parts = [
            name + pretty(part, inner, WIDTH - len(inner + name) - 1)
            for name, part in zip(names, value.values(), strict=True)
        ]
    else:
        parts = [pretty(part, inner, WIDTH - len(inner) - 1) for part in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}{_packed(parts, inner)}\n{indent}{closing}"


def _packed(parts: list[str], indent: str) -> str:
    lines = [""]
    for number, part in enumerate(parts):
        piece = part + ("," if number < len(parts) - 1 else "")
        if lines[-1] and ("\n" in lines[-1] + piece or len(f"{indent}{lines[-1]} {piece}") > WIDTH):
            lines.append(piece)
        else:
            lines[-1] = f"{lines[-1]} {piece}".strip()
    return f"\n{indent}".join(lines)


def _fixed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _FIXED.get(name, _fixed(part)) for name, part in value.items()}
    return [_fixed(part) for part in value] if isinstance(value, list) else value


def _rfc3339(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        broker = LocalBroker(directory, make_certificate(directory))
        broker.start()
        make_data_dir(directory / "data")
        daemon = Daemon(broker, directory / "data")
        daemon.start()
        try:
            daemon.wait_ready()
            PAGE.write_text(asyncio.run(page(daemon)), "utf-8")
        finally:
            daemon.remove()
            broker.remove()


if __name__ == "__main__":
    main()
