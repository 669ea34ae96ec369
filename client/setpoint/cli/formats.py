"""Documents as files hold them: JSON, YAML and TOML, read into what JSON can say, and YAML written.

YAML is read by the rules of its version 1.2 (core schema): only ``true`` and ``false`` are booleans, so ``no`` and
``on`` are texts; ``1:30`` and ``2026-01-01`` are texts; a key stands once in a mapping and is a text. TOML's dates
become texts. JSON is read as the wire reads it.
"""

import datetime as dt
import json
from pathlib import PurePath
from typing import Any

from setpoint.cli.exits import Exit, Failed


def parse(text: bytes, suffix: str, where: str) -> Any:
    """Read a document by the suffix of its file; JSON or YAML where that says nothing. Raises ``Failed``."""
    kind = suffix.lower().lstrip(".")
    if kind == "toml":
        value = _toml(text, where)
    elif kind == "json" or (kind not in {"yaml", "yml"} and text.lstrip()[:1] in {b"{", b"["}):
        value = _json(text, where)
    else:
        value = _yaml(text, where)
    return checked(value, where)


def suffix_of(path: str) -> str:
    """Return the suffix of a file's name."""
    return PurePath(path).suffix


def checked(value: Any, where: str) -> Any:
    """Return a value that the wire can carry as it is; raises ``Failed`` for one that it cannot."""
    from setpoint_contracts import strictjson

    try:
        return strictjson.loads(strictjson.dumps(value).encode())
    except strictjson.InvalidJsonError as error:
        raise Failed(f"{where}: {error}", code=Exit.INVALID) from None
    except (ValueError, RecursionError):  # NaN, a lone surrogate, or too deep for the json module
        raise Failed(f"{where}: holds something that JSON cannot say", code=Exit.INVALID) from None


def _json(text: bytes, where: str) -> Any:
    from setpoint_contracts import strictjson

    try:
        return strictjson.loads(text)
    except strictjson.InvalidJsonError as error:
        raise Failed(f"{where}: {error}{_place_in_json(text)}", code=Exit.INVALID) from None


def _place_in_json(text: bytes) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f" (line {error.lineno}, column {error.colno})"
    except (ValueError, RecursionError):
        pass
    return ""


def _toml(text: bytes, where: str) -> Any:
    import tomllib

    try:
        return _without_dates(tomllib.loads(text.decode()))
    except UnicodeDecodeError:
        raise Failed(f"{where}: not UTF-8", code=Exit.INVALID) from None
    except tomllib.TOMLDecodeError as error:
        raise Failed(f"{where}: not TOML: {error}", code=Exit.INVALID) from None


def _without_dates(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_dates(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_dates(one) for one in value]
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    return value


def _yaml(text: bytes, where: str) -> Any:
    import yaml

    from setpoint.cli.yaml12 import Loader

    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader with fewer types
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise Failed(f"{where}: not YAML: {error.problem or error.context}{place}", code=Exit.INVALID) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise Failed(f"{where}: not YAML", code=Exit.INVALID) from None
    except RecursionError:
        raise Failed(f"{where}: nested too deep", code=Exit.INVALID) from None


def to_yaml(value: Any) -> str:
    """Write YAML that versions 1.1 and 1.2 read alike: what either takes for something else than text is quoted."""
    text = _dumped(value, allow_unicode=True)
    # What steers a terminal, or turns the order of letters, is escaped; then all that is not ASCII is.
    return text if text.replace("\n", "").isprintable() else _dumped(value, allow_unicode=False)


def _dumped(value: Any, *, allow_unicode: bool) -> str:
    import yaml

    from setpoint.cli.yaml12 import Dumper

    return yaml.dump(
        value, Dumper=Dumper, allow_unicode=allow_unicode, sort_keys=False, default_flow_style=False, width=120
    )
