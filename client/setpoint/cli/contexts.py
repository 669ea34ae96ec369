"""``setpoint context``: brokers with their tokens under names; and which of them a command uses.

What is given on the command line counts first, then the context that is named there or in ``SETPOINT_CONTEXT``, then
the environment, then the context in use, then the library's defaults. The file is TOML and its owner's alone, because
the URL of a broker may hold a password.
"""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click

from setpoint.cli.exits import Exit, Failed
from setpoint.cli.options import Group, Options, pass_options
from setpoint.cli.output import Table, show

MEMBERS = ("broker", "token", "prefix", "ca", "cert", "key")
_VARIABLES = {
    "broker": "SETPOINT_BROKER_URL",
    "token": "SETPOINT_TOKEN",
    "prefix": "SETPOINT_TOPIC_PREFIX",
    "ca": "SETPOINT_BROKER_CA",
    "cert": "SETPOINT_BROKER_CERT",
    "key": "SETPOINT_BROKER_KEY",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Target:
    """Which daemon a command is for, and by which way; None: the library's default."""

    broker: str | None = None
    token: str | None = None
    prefix: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    context: str | None = None


def target(options: Options, environment: Mapping[str, str] = os.environ) -> Target:
    """Put command line, context and environment together; raises ``Failed``."""
    named = options.context or environment.get("SETPOINT_CONTEXT")
    kept = _read(needed=bool(named))
    chosen = named or kept.get("current")
    if named and named not in kept["contexts"]:
        raise Failed(f"there is no context {named}", "`setpoint context list` shows those there are")
    context = kept["contexts"].get(chosen, {})
    given = {"broker": options.broker, "token": options.token, "prefix": options.prefix}
    set_outside = {member: environment.get(variable) or None for member, variable in _VARIABLES.items()}
    order = (given, context, set_outside) if named else (given, set_outside, context)
    found = {
        member: next((source[member] for source in order if source.get(member) is not None), None) for member in MEMBERS
    }
    return Target(**found, context=chosen if context else None)


def path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the contexts are kept; raises ``Failed`` where there is no home for them."""
    home = environment.get("XDG_CONFIG_HOME")
    try:
        root = Path(home) if home else Path(environment.get("HOME") or "~").expanduser() / ".config"
    except RuntimeError:
        raise Failed("there is no home directory to keep contexts in", "set HOME or XDG_CONFIG_HOME") from None
    return root / "setpoint" / "contexts.toml"


def names() -> list[str]:
    """Return the names of all contexts; none when the file cannot be read."""
    with contextlib.suppress(Failed):
        return sorted(_read()["contexts"])
    return []


def _read(*, needed: bool = True) -> dict[str, Any]:
    """Read the file: ``contexts`` by name, and which is ``current``. Not ``needed``, a home that is closed is empty."""
    try:
        file = path()
    except Failed:
        return {"current": None, "contexts": {}}
    try:
        content = _parsed(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        content = {}
    except PermissionError as error:
        if needed:
            raise Failed(f"{file} cannot be read: {error.strerror}") from None
        content = {}
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Failed(f"{file} cannot be read: {why}", "mend or remove it", Exit.USAGE) from None
    contexts = content.get("contexts", {})
    fits = isinstance(contexts, dict) and all(_is_context(context) for context in contexts.values())
    current = content.get("current")
    if not fits or not (current is None or isinstance(current, str)):
        raise Failed(f"{file} is not as `setpoint context` writes it", "mend or remove it", Exit.USAGE)
    return {"current": current, "contexts": contexts}


def _parsed(text: str) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(text)


def _is_context(context: Any) -> bool:
    return isinstance(context, dict) and all(
        name in MEMBERS and isinstance(value, str) for name, value in context.items()
    )


def _write(kept: dict[str, Any]) -> None:
    """Put the file in place of the old one, whole or not at all; only its owner can read it."""
    lines = [f"current = {_quoted(kept['current'])}\n"] if kept.get("current") else []
    for name, context in sorted(kept["contexts"].items()):
        members = [f"{member} = {_quoted(context[member])}\n" for member in MEMBERS if member in context]
        lines += [f"\n[contexts.{_quoted(name)}]\n", *members]
    try:
        content = "".join(lines).encode()
    except UnicodeEncodeError:
        raise Failed("what is kept in a context is UTF-8, and this is not") from None
    file = path()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".contexts")  # 0600
    with os.fdopen(handle, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    Path(temporary).replace(file)


def _quoted(text: str) -> str:
    # A basic string of TOML is one of JSON, but that TOML wants DEL escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def masked(url: str | None) -> str | None:
    """Return the URL of a broker without its password."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        if parts.password is None:
            return url if parts.hostname else "***"
        return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}"))
    except ValueError:
        return "***"


@click.group("context", cls=Group)
def context() -> None:
    """Keep brokers and tokens under names, and choose one."""


@context.command("list")
@pass_options
def list_(options: Options) -> None:
    """List the contexts; the one in use is marked."""
    kept = _read()
    shown = [_shown(kept, name) for name in sorted(kept["contexts"])]
    rows = [
        ("*" if one["current"] else "", one["name"], one.get("broker"), one.get("token"), one.get("prefix"))
        for one in shown
    ]
    show(
        options,
        {"contexts": shown},
        Table(("", "NAME", "BROKER", "TOKEN", "PREFIX"), rows),
        raw=[one["name"] for one in shown],
    )


@context.command("show")
@click.argument("name", required=False)
@pass_options
def show_one(options: Options, name: str | None) -> None:
    """Show a context, or what commands use now; never a password."""
    if name is None:
        found = target(options)
        shown = {member: getattr(found, member) for member in ("context", *MEMBERS)}
        shown["broker"] = masked(found.broker)
    else:
        kept = _read()
        _known(kept, name)
        shown = _shown(kept, name)
    show(options, shown, Table(("", ""), [(key, value) for key, value in shown.items() if value is not None]))


@context.command("use")
@click.argument("name")
def use(name: str) -> None:
    """Use a context from now on."""
    kept = _read()
    _known(kept, name)
    _write({**kept, "current": name})


@context.command("add")
@click.argument("name")
@click.option("--ca", type=click.Path(), metavar="FILE", help="Whom to trust over TLS, as PEM; else the system's.")
@click.option("--cert", type=click.Path(), metavar="FILE", help="The client's certificate, as PEM.")
@click.option("--key", type=click.Path(), metavar="FILE", help="Its key.")
@click.option("--use", "at_once", is_flag=True, help="Use it from now on; the first one is used anyway.")
@pass_options
def add(options: Options, name: str, ca: str | None, cert: str | None, key: str | None, *, at_once: bool) -> None:
    """Keep what --broker, --token and --prefix say under NAME; it replaces one of that name."""
    if not _NAME.fullmatch(name):
        raise click.UsageError("a context has letters, digits, dots, dashes and underscores as its name, at most 63")
    if options.broker is None and options.token is None and options.prefix is None:
        raise click.UsageError("say what to keep: --broker URL, --token FILE, --prefix TEXT")
    _check_broker(options.broker)
    files = {"token": options.token, "ca": ca, "cert": cert, "key": key}
    given = {"broker": options.broker, "prefix": options.prefix}
    given |= {member: str(Path(file).expanduser().absolute()) for member, file in files.items() if file is not None}
    kept = _read()
    kept["contexts"][name] = {member: value for member, value in given.items() if value is not None}
    if at_once or not kept.get("current"):
        kept["current"] = name
    _write(kept)


def _check_broker(url: str | None) -> None:
    """Refuse what the library would not take for the URL of a broker; whether there is one is another thing."""
    from setpoint.errors import ConfigurationError
    from setpoint.settings import settle

    if url is not None:
        try:
            settle(url, None, topic_prefix="", environment={"SETPOINT_CACHE_DIR": "."})
        except ConfigurationError as error:
            raise Failed(error.message) from None


@context.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Forget a context; its token file stays."""
    kept = _read()
    _known(kept, name)
    del kept["contexts"][name]
    if kept.get("current") == name:
        kept["current"] = None
    _write(kept)


def _known(kept: dict[str, Any], name: str) -> None:
    if name not in kept["contexts"]:
        raise Failed(f"there is no context {name}", "`setpoint context list` shows those there are", Exit.NOT_FOUND)


def _shown(kept: dict[str, Any], name: str) -> dict[str, Any]:
    found = kept["contexts"][name]
    return {"name": name, "current": kept.get("current") == name, **found, "broker": masked(found.get("broker"))}
