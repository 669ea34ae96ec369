"""YAML by the core schema of version 1.2 (section 10.3.2), on PyYAML, whose own rules are those of 1.1.

Only ``true`` and ``false`` are booleans; numbers are decimal, ``0x`` or ``0o``; times and sexagesimals are texts.
Keys are texts, and stand once in a mapping.
"""

import re
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _Base  # the faster one, where libyaml is there
except ImportError:
    from yaml import SafeLoader as _Base  # type: ignore[assignment]

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_TAG = "tag:yaml.org,2002:"


class Loader(_Base):
    """Reads YAML 1.2 into what JSON can say."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own


def _resolve(name: str, pattern: str, first: str) -> None:
    Loader.add_implicit_resolver(_TAG + name, re.compile(rf"^(?:{pattern})$"), list(first) or [""])


_resolve("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("null", "~|null|Null|NULL|", "~nN")
Loader.add_implicit_resolver(_TAG + "null", re.compile(r"^$"), [""])
_resolve("int", _INT.pattern, "-+0123456789")
_resolve("float", _FLOAT.pattern, "-+0123456789.")


def _mapping(loader: Loader, node: yaml.MappingNode) -> Any:
    found: dict[str, Any] = {}
    yield found
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, "a key that is no text; put it in quotes", key_node.start_mark
            )
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)


def _int(loader: Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)  # noqa: PLR2004 - decimal


def _float(loader: Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _unknown(_loader: Loader, node: yaml.Node) -> Any:
    raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag} is none that JSON has", node.start_mark)


Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in Loader.yaml_constructors.items()
    if tag in {_TAG + name for name in ("null", "bool", "str", "seq")}
}
Loader.add_constructor(_TAG + "map", _mapping)
Loader.add_constructor(_TAG + "int", _int)
Loader.add_constructor(_TAG + "float", _float)
Loader.add_constructor(None, _unknown)


class Dumper(yaml.SafeDumper):
    """Writes YAML whose texts no reader takes for something else."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        """Write everything out: an alias would puzzle people."""
        return True


def _text(dumper: Dumper, text: str) -> yaml.Node:
    block = "|" if "\n" in text.rstrip("\n") and text.isprintable() is False and _is_blockable(text) else None
    return dumper.represent_scalar(_TAG + "str", text, style=block)


def _is_blockable(text: str) -> bool:
    return all(line == line.rstrip() for line in text.split("\n")) and text.replace("\n", "").isprintable()


Dumper.add_representer(str, _text)
for _name, _pattern, _first in (("int", _INT.pattern, "-+0123456789"), ("float", _FLOAT.pattern, "-+0123456789.")):
    Dumper.add_implicit_resolver(
        _TAG + _name, re.compile(rf"^(?:{_pattern})$"), list(_first)
    )  # 0o17 is a number in 1.2
