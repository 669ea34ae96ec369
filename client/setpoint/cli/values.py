"""Values as they are given on the command line: ``KEY=VALUE``, ``@FILE``, ``-`` for standard input.

Several of them are put together in their order, a later key over an earlier one: ``setpoint set stt @base.yaml
model=large``. A VALUE is JSON if it can be read as JSON, else text; to give a text that could be JSON, write it as
JSON: ``'port="80"'``.
"""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from setpoint.cli.exits import Exit, Failed
from setpoint.cli.formats import checked, parse, suffix_of

STDIN = "-"


def config(arguments: tuple[str, ...]) -> dict[str, Any]:
    """Put a config together from arguments; raises ``Failed`` or ``click.UsageError``."""
    if arguments.count(STDIN) > 1:
        raise click.UsageError("standard input can be read once only")
    found: dict[str, Any] = {}
    for argument in arguments:
        if argument == STDIN or argument.startswith("@"):
            found |= _members(document(argument), argument)
        else:
            key, value = pair(argument)
            found[key] = value
    return checked(found, "the values")  # type: ignore[no-any-return] # an object stays one


def pair(argument: str) -> tuple[str, Any]:
    """Read ``KEY=VALUE``."""
    key, equals, text = argument.partition("=")
    if not equals or not key:
        raise click.UsageError(f"{argument!r} is no KEY=VALUE; a file is @FILE, standard input is -")
    return key, value(text)


def value(text: str) -> Any:
    """Read JSON if it can be read as that, else take the text as it is."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON, so they are texts


def document(argument: str) -> Any:
    """Read the file of ``@FILE`` or ``FILE``, or standard input; by its suffix, else as JSON or YAML."""
    if argument == STDIN:
        if sys.stdin is None:
            raise Failed("standard input is closed")
        return parse(sys.stdin.buffer.read(), "", "standard input")
    path = argument.removeprefix("@")
    try:
        text = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}", code=Exit.USAGE) from None
    return parse(text, suffix_of(path), path)


def _members(found: Any, argument: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        where = "standard input" if argument == STDIN else argument.removeprefix("@")
        raise Failed(f"{where}: a config is an object with keys; this is {_kind(found)}", code=Exit.INVALID)
    return found


def _kind(found: Any) -> str:
    if found is None:
        return "nothing"
    return {list: "a list", str: "a text", bool: "a boolean"}.get(type(found), "a number")


def json_object(text: str | None, where: str) -> dict[str, Any]:
    """Read parameters: a JSON object, ``@FILE`` or ``-``; none are an empty one."""
    if text is None:
        return {}
    if text == STDIN or text.startswith("@"):
        found = document(text)
    else:
        try:
            found = parse(text.encode(), ".json", where)
        except UnicodeEncodeError:
            raise Failed(f"{where}: not UTF-8", code=Exit.INVALID) from None
    return _members(found, STDIN if text == STDIN else where)
