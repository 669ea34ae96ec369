"""What each role and scope gets, command by command: a viewer and an operator that see `stt` and `tts*` only."""

from typing import Any

import pytest

from setpoint_contracts import COMMANDS
from tests.caller import Caller, calling
from tests.daemon import Daemon, NewDaemon

CONFIGS: dict[str, dict[str, Any]] = {"stt": {"a": 1}, "tts-1": {"b": 2}, "nlu": {"c": 3}}
READ, WRITE, DELETE, MANAGE = "config.read", "config.write", "config.delete", "admin.manage"
OK = "ok"
NEEDS_READ = f"forbidden: {READ}"
NEEDS_WRITE = f"forbidden: {WRITE}"
NEEDS_DELETE = f"forbidden: {DELETE}"
NEEDS_MANAGE = f"forbidden: {MANAGE}"

Row = tuple[str, dict[str, Any], str, str]
SET_BOTH = [{"op": "set", "service": "stt", "config": {}}, {"op": "set", "service": "tts-1", "config": {}}]
DRY = {"dry_run": True}
# command, params, what the viewer gets, what the operator gets
ROWS: list[Row] = [
    ("info", {}, OK, OK),
    ("status", {}, OK, OK),
    ("get", {"service": "stt"}, OK, OK),
    ("get", {"service": "nlu"}, NEEDS_READ, NEEDS_READ),
    ("get", {"service": "stt", "reveal": True}, NEEDS_WRITE, OK),
    ("get", {"service": "nlu", "reveal": True}, NEEDS_READ, NEEDS_READ),
    ("list", {}, "stt tts-1", "stt tts-1"),
    ("search", {"query": "a"}, "stt", "stt"),
    ("search", {"query": "c"}, "", ""),
    ("search", {"query": "c", "service": "nlu"}, NEEDS_READ, NEEDS_READ),
    ("set", {"service": "stt", "config": {}, **DRY}, NEEDS_WRITE, OK),
    ("set", {"service": "nlu", "config": {}, **DRY}, NEEDS_WRITE, NEEDS_WRITE),
    ("patch", {"service": "tts-1", "patch": {"b": 3}, **DRY}, NEEDS_WRITE, OK),
    ("patch", {"service": "nlu", "patch": {"c": 4}, **DRY}, NEEDS_WRITE, NEEDS_WRITE),
    ("delete", {"service": "stt", **DRY}, NEEDS_DELETE, NEEDS_DELETE),
    ("apply", {"changes": SET_BOTH, **DRY}, NEEDS_WRITE, OK),
    ("apply", {"changes": [*SET_BOTH, {"op": "delete", "service": "tts-2"}], **DRY}, NEEDS_WRITE, NEEDS_DELETE),
    ("apply", {"changes": [*SET_BOTH, {"op": "set", "service": "nlu", "config": {}}]}, NEEDS_WRITE, NEEDS_WRITE),
    ("diff", {"service": "stt", "from": {"version": 1}, "to": {"version": 1}}, OK, OK),
    ("diff", {"service": "nlu", "from": {"version": 1}, "to": {"version": 1}}, NEEDS_READ, NEEDS_READ),
    ("history/query", {}, "stt tts-1", "stt tts-1"),
    ("history/query", {"service": "nlu"}, NEEDS_READ, NEEDS_READ),
    ("history/versions", {"service": "stt"}, OK, OK),
    ("history/versions", {"service": "nlu"}, NEEDS_READ, NEEDS_READ),
    ("history/restore", {"services": ["stt"], "version": 1, **DRY}, NEEDS_WRITE, OK),
    ("history/restore", {"services": ["stt", "nlu"], "revision": 1, **DRY}, NEEDS_WRITE, NEEDS_WRITE),
    ("history/restore", {"revision": 1, **DRY}, NEEDS_WRITE, NEEDS_WRITE),
    # tts-1 was not there at revision 1: restoring would delete it
    ("history/restore", {"services": ["tts-1"], "revision": 1, **DRY}, NEEDS_WRITE, NEEDS_DELETE),
    ("history/prune", {"keep_versions": 1}, NEEDS_MANAGE, NEEDS_MANAGE),
    ("profile/save", {"name": "mine", "services": ["stt"]}, NEEDS_WRITE, OK),
    ("profile/save", {"name": "all"}, NEEDS_WRITE, NEEDS_WRITE),
    ("profile/save", {"name": "other", "services": ["nlu"]}, NEEDS_WRITE, NEEDS_WRITE),
    ("profile/list", {}, "everything mine some", "everything mine some"),
    ("profile/get", {"name": "some"}, "stt", "stt"),
    ("profile/get", {"name": "everything"}, "stt tts-1", "stt tts-1"),
    ("profile/load", {"name": "some", **DRY}, NEEDS_WRITE, OK),
    ("profile/load", {"name": "some", "exact": True, **DRY}, NEEDS_WRITE, NEEDS_DELETE),
    ("profile/load", {"name": "everything", **DRY}, NEEDS_WRITE, NEEDS_WRITE),
    ("profile/delete", {"name": "some"}, NEEDS_DELETE, NEEDS_DELETE),
    ("schema/set", {"service": "stt", "schema": {}}, NEEDS_MANAGE, NEEDS_MANAGE),
    ("schema/get", {"service": "stt"}, OK, OK),
    ("schema/get", {"service": "nlu"}, NEEDS_READ, NEEDS_READ),
    ("schema/list", {}, "stt", "stt"),
    ("schema/delete", {"service": "stt"}, NEEDS_MANAGE, NEEDS_MANAGE),
    ("token/list", {}, NEEDS_MANAGE, NEEDS_MANAGE),
    ("token/create", {"name": "x", "role": "viewer"}, NEEDS_MANAGE, NEEDS_MANAGE),
    ("token/revoke", {"kid": "tok_x"}, NEEDS_MANAGE, NEEDS_MANAGE),
    ("token/rotate", {"kid": "tok_x"}, NEEDS_MANAGE, NEEDS_MANAGE),
    ("audit/query", {}, NEEDS_MANAGE, NEEDS_MANAGE),
    ("applied", {}, OK, OK),
    ("applied", {"service": "nlu"}, NEEDS_READ, NEEDS_READ),
    ("epoch/advance", {}, NEEDS_MANAGE, NEEDS_MANAGE),
]
# What a list shows, as the row has it.
SHOWN = {
    "list": ("services", "service"),
    "search": ("matches", "service"),
    "history/query": ("entries", "service"),
    "profile/list": ("profiles", "name"),
    "profile/get": ("snapshot", None),
    "schema/list": ("schemas", "service"),
}


@pytest.fixture
def daemon(new_daemon: NewDaemon) -> Daemon:
    """Start a daemon whose services have just these names."""
    return new_daemon()


async def outcome(caller: Caller, command: str, params: dict[str, Any]) -> str:
    """Say in a word or two what became of a command."""
    reply = await caller.call(command, params)
    if reply.error is not None:
        return f"{reply.error.code}: {reply.error.details.get('needs')}"
    assert reply.result is not None
    if command not in SHOWN:
        return OK
    member, name = SHOWN[command]
    shown = reply.result[member]
    return " ".join(sorted(set(shown) if name is None else {one[name] for one in shown}))


async def test_every_role_gets_what_its_row_says(daemon: Daemon) -> None:
    """Every command is tried by both, within their scope and outside of it, and each gets what the table says."""
    scope = ["--services", "stt", "--services", "tts*"]
    tokens = [daemon.new_token(role, role, *scope) for role in ("viewer", "operator")]
    async with calling(daemon) as admin, calling(daemon, tokens[0]) as viewer, calling(daemon, tokens[1]) as operator:
        for service, config in CONFIGS.items():
            await admin.ok("set", {"service": service, "config": config})
        await admin.ok("schema/set", {"service": "stt", "schema": {"type": "object"}})
        await admin.ok("schema/set", {"service": "nlu", "schema": {"type": "object"}})
        await admin.ok("profile/save", {"name": "some", "services": ["stt"]})
        await admin.ok("profile/save", {"name": "foreign", "services": ["nlu"]})
        await admin.ok("profile/save", {"name": "everything"})
        got = [
            (command, params, await outcome(viewer, command, params), await outcome(operator, command, params))
            for command, params, _, _ in ROWS
        ]
    assert got == ROWS


def test_the_table_has_every_command() -> None:
    """A new command has its row here."""
    assert {row[0] for row in ROWS} == COMMANDS.keys()
