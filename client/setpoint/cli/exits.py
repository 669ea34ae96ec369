"""How the command line ends: its exit codes, and what it says of an error: one line what, one line what to do.

The codes are for scripts and stay what they are. A code of the wire that is not known here ends as refused.
"""

import contextlib
import textwrap
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import click


class Exit(IntEnum):
    """The exit codes, as client/cli.md documents them."""

    OK = 0
    DIFFERS = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    INVALID = 5
    DENIED = 6
    UNREACHABLE = 7
    REFUSED = 8
    INTERRUPTED = 130
    BROKEN_PIPE = 141


CODES: dict[str, Exit] = {
    "bad_request": Exit.INVALID,
    "wrong_topic": Exit.INVALID,
    "bad_reply_topic": Exit.INVALID,
    "schema_invalid": Exit.INVALID,
    "too_large": Exit.INVALID,
    "expired": Exit.DENIED,
    "clock_skew": Exit.DENIED,
    "token_expired": Exit.DENIED,
    "token_revoked": Exit.DENIED,
    "forbidden": Exit.DENIED,
    "not_found": Exit.NOT_FOUND,
    "already_exists": Exit.CONFLICT,
    "version_conflict": Exit.CONFLICT,
    "idempotency_conflict": Exit.CONFLICT,
    "unreachable": Exit.UNREACHABLE,
    "not_applied": Exit.UNREACHABLE,
    "configuration": Exit.USAGE,
    "read_only": Exit.REFUSED,
    "rate_limited": Exit.REFUSED,
    "unavailable": Exit.REFUSED,
    "internal": Exit.REFUSED,
    "unknown_command": Exit.REFUSED,
}
"""The exit code of each error: of the wire's codes (section 4), and of those that the library has besides."""

_TODO: dict[str, str] = {
    "wrong_topic": "the daemon uses another topic prefix: give it with --prefix",
    "bad_reply_topic": "choose one inside config/reply/ and the name of the token",
    "expired": "compare the clocks: `setpoint doctor` shows the difference",
    "clock_skew": "set this machine's clock: `setpoint doctor` shows the difference",
    "token_expired": "ask an administrator for a new token (`setpoint token create`)",
    "token_revoked": "ask an administrator for a new token (`setpoint token create`)",
    "forbidden": "use another token (--token FILE), or ask an administrator for one that may",
    "already_exists": "take another name, or replace it with --overwrite",
    "idempotency_conflict": "leave --jti out: each new command needs one of its own",
    "schema_invalid": "`setpoint schema get {service}` shows what it must fit",
    "too_large": "make it smaller, or ask for less",
    "unreachable": "`setpoint doctor` finds out why",
    "not_applied": "look at those that are behind, or wait longer (--timeout)",
    "read_only": "an operator decides: `setpoint status` says why; reads work",
    "rate_limited": "wait {retry_after_s} s, then try again",
    "unavailable": "try again; if it stays so, look at the daemon's log and disk",
    "internal": "try again; if it stays so, look at the daemon's log",
    "unknown_command": "the daemon has no such command, perhaps because it is older; `setpoint info` lists all it has",
}
_SHOWN_ERRORS = 3
_LISTED_BY = {"profile": "profile list", "schema": "schema list", "token": "token list"}

Asked = tuple[str, Mapping[str, Any]]
"""A command and what it was given."""


class Failed(click.ClickException):
    """Something that this command line itself refuses: what, what to do about it, and the exit code."""

    def __init__(self, message: str, todo: str | None = None, code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.todo = todo
        self.ending = code


def exit_code(code: str) -> Exit:
    """Return the exit code of an error's code."""
    return CODES.get(code, Exit.REFUSED)


def told(code: str, message: str, details: Mapping[str, Any], asked: Asked | None = None) -> tuple[str, str | None]:
    """Say what an error of a command is, and what to do about it; the latter is None when nobody knows."""
    errors = details.get("errors") or []
    shown = [_one_error(error) for error in errors[:_SHOWN_ERRORS]]
    if shown and code == "bad_request":
        more = len(errors) - len(shown)
        message = "this does not fit: " + "; ".join(shown) + (f"; and {more} more" if more else "")
    elif code == "schema_invalid" and shown[1:]:  # the first stands in the message
        message = f"{message.rstrip('.')}: {'; '.join(shown[1:])}"
    return message, _todo(code, details, asked)


def _one_error(error: Mapping[str, Any]) -> str:
    where = error.get("field") or error.get("pointer") or ""
    return f"{where}: {error.get('message', '')}" if where else str(error.get("message", ""))


def _todo(code: str, details: Mapping[str, Any], asked: Asked | None) -> str | None:
    if code == "version_conflict":
        current = details.get("current") or {}
        service, version = current.get("service", "SERVICE"), current.get("version", "N")
        return f"look at it (`setpoint get {service}`), then write with --expect {version}"
    if code == "bad_request" and any(_is_expectation(error) for error in details.get("errors") or ()):
        return "this daemon wants to know which version you have seen: give --expect N (0: it must not exist)"
    if code == "not_found":
        return _where_to_look(details, asked)
    if code == "too_large" and details.get("applied"):
        return "it took effect, only the answer was too large: do not send it again"
    text = _TODO.get(code)
    return text.format_map(_Known(details)) if text else None


def _where_to_look(details: Mapping[str, Any], asked: Asked | None) -> str:
    if details.get("pruned"):
        return f"`setpoint history {details.get('service', 'SERVICE')} --versions` shows what is left"
    current = details.get("current") or {}
    if current.get("deleted"):
        return f"`setpoint history {current['service']} --versions` shows what there was"
    return f"`setpoint {_shows_what_there_is(details, asked)}` shows what there is"


def _shows_what_there_is(details: Mapping[str, Any], asked: Asked | None) -> str:
    """Name the command that lists what something was not found among."""
    command, given = asked or ("", {})
    family, service = command.partition("/")[0], given.get("service")
    if command != "profile/save" and family in _LISTED_BY:
        return _LISTED_BY[family]
    if command == "history/restore" and "version" in given:
        service = (given.get("services") or [None])[0]
    elif command == "get" and given.keys() == {"service", "key"}:
        return f"get {service}"
    elif command != "diff" and not given.keys() & {"version", "revision", "time"}:
        service = None
    never_was = "service" in details
    return "list" if service is None or never_was else f"history {service} --versions"


def _is_expectation(error: Mapping[str, Any]) -> bool:
    return str(error.get("field", "")).endswith("expected_version") and error.get("type") == "missing"


class _Known(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return key.upper()


def complain(message: str, todo: str | None = None) -> None:
    """Print an error on standard error, if that can be written: what, and on a second line what to do.

    Nothing in it can steer a terminal.
    """
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"setpoint: {_one_line(message)}", err=True)
        if todo:
            click.echo(f"  do: {_one_line(todo)}", err=True)


def _one_line(text: str) -> str:
    from setpoint.cli.output import harmless

    joined = harmless(" ".join(text.split()))
    return textwrap.shorten(joined, 2000, placeholder=" …") if len(joined) > 2000 else joined  # noqa: PLR2004 - a bound
