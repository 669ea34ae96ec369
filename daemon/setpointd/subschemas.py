"""Which parts of a JSON Schema (2020-12) apply to which parts of a value. Pure; it judges no value.

Rules:

- All that may apply does: both branches of an ``if``, every member of ``anyOf``, and what is only for some kinds of
  objects. So what applies depends on where a part of a value stands, and never on what the value holds elsewhere.
- A schema that applies to a place because it applies to that place is refused: ``EndlessError``. To refer to itself
  further down, as a tree does, is usual.
- Only references into the schema itself are known: ``#``, ``#/pointer`` and ``#anchor``.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import unquote

from setpoint_contracts.pointers import Step, unescaped

_BESIDE = ("if", "then", "else", "not")
_BESIDE_LISTS = ("allOf", "anyOf", "oneOf")
_BESIDE_NAMED = ("dependentSchemas", "dependencies")
_REFERENCES = ("$ref", "$dynamicRef")
_ANCHORS = ("$anchor", "$dynamicAnchor")

Matches = Callable[[str], bool]


class EndlessError(ValueError):
    """A schema refers to itself without going further down."""


class AmbiguousError(ValueError):
    """An anchor stands twice in a schema; ``args[0]`` is the anchor."""


class DanglingError(ValueError):
    """A reference leads nowhere in the schema; ``args[0]`` is the reference."""


class Part:
    """One subschema: what applies beside it, to members and to items.

    ``weight`` is about what it costs to check; ``secret``: it has ``"writeOnly": true``; ``leads``: it has, or some
    part that may apply because of it.
    """

    __slots__ = (
        "beside",
        "every_item",
        "items",
        "leads",
        "others",
        "patterns",
        "prefix",
        "properties",
        "rank",
        "secret",
        "weight",
    )

    def __init__(self, weight: int, *, secret: bool = False) -> None:
        self.weight = weight
        self.secret = self.leads = secret
        self.rank = 0
        self.beside: list[Part] = []
        self.properties: dict[str, Part] = {}
        self.patterns: list[tuple[Matches, Part]] = []
        self.others: list[Part] = []
        self.prefix: list[Part] = []
        self.items: list[Part] = []
        self.every_item: list[Part] = []

    def parts(self) -> Iterator["Part"]:
        """Give all parts that this one names."""
        yield from self.beside
        yield from self.properties.values()
        yield from (part for _, part in self.patterns)
        for group in (self.others, self.prefix, self.items, self.every_item):
            yield from group

    def below(self, step: Step) -> Iterator["Part"]:
        """Give what applies to a member, by its name, or to an item, by its place."""
        if isinstance(step, int):
            yield from self.prefix[step : step + 1] or self.items
            yield from self.every_item
            return
        found = [self.properties[step]] if step in self.properties else []
        found += [part for matches, part in self.patterns if matches(step)]
        yield from found or self.others


class Shape:
    """A schema as the parts that it is made of. ``matcher`` makes of a regular expression what tells a name by it."""

    def __init__(self, schema: Mapping[str, Any], matcher: Callable[[str], Matches]) -> None:
        self._schema = schema
        self._matcher = matcher
        self._anchors: dict[str, Any] = {}
        self._parts: dict[int, Part] = {}
        self._unread: list[tuple[Part, Mapping[str, Any]]] = []
        _find_anchors(schema, self._anchors)
        self.root = self._part(schema)
        while self._unread:
            self._read(*self._unread.pop())
        self.weight = sum(part.weight for part in self._parts.values())
        self._rank()
        self._lead()
        self.marks = self.root.leads

    def marked(self, value: Any, limit: int) -> set[tuple[Step, ...]] | None:
        """Give the places of a value that are secret, but for what is inside of one; None: it takes too many steps."""
        found: set[tuple[Step, ...]] = set()
        steps = 0
        places: list[tuple[tuple[Step, ...], frozenset[Part], Any]] = [((), frozenset([self.root]), value)]
        known: dict[frozenset[Part], list[Part]] = {}  # items are alike
        while places:
            path, first, value = places.pop()
            if first not in known:
                known[first] = [part for part in applying(Counter(dict.fromkeys(first, 1))) if part.leads]
            if any(part.secret for part in known[first]):
                found.add(path)
                continue
            for step, child in children(value):
                steps += len(known[first])
                if steps > limit:
                    return None
                if below := frozenset(one for part in known[first] for one in part.below(step) if one.leads):
                    places.append(((*path, step), below, child))
        return found

    def cost(self, value: Any, limit: int) -> int:
        """Count the steps of checking a value, were nothing remembered; how far over the limit, is not found out."""
        total = 0
        places = [(Counter({self.root: 1}), value)]
        known: dict[frozenset[tuple[Part, int]], tuple[Counter[Part], int]] = {}  # items are alike
        while places and total <= limit:
            first, value = places.pop()
            key = frozenset(first.items())
            if key not in known:
                counts = applying(first)
                known[key] = counts, sum(part.weight * count for part, count in counts.items())
            counts, weight = known[key]
            total += weight
            for step, child in children(value):
                total += len(counts)
                below: Counter[Part] = Counter()
                for part, count in counts.items():
                    for one in part.below(step):
                        below[one] += count
                if below:
                    places.append((below, child))
                if total > limit:
                    break
        return total

    def _part(self, schema: Any) -> Part:
        if isinstance(schema, bool):
            return Part(1)
        part = self._parts.get(id(schema))
        if part is None:
            weight = 1 + sum(map(_size, schema.values()))
            part = self._parts[id(schema)] = Part(weight, secret=schema.get("writeOnly") is True)
            self._unread.append((part, schema))
        return part

    def _read(self, part: Part, schema: Mapping[str, Any]) -> None:
        for name in _REFERENCES:
            if name in schema:
                part.beside.append(self._part(self._target(schema[name])))
        part.beside += [self._part(schema[name]) for name in _BESIDE if name in schema]
        for name in _BESIDE_LISTS:
            part.beside += map(self._part, schema.get(name, ()))
        for name in _BESIDE_NAMED:
            # Of the older ``dependencies`` some are lists of names.
            part.beside += [self._part(one) for one in schema.get(name, {}).values() if not isinstance(one, list)]
        part.properties = {name: self._part(one) for name, one in schema.get("properties", {}).items()}
        part.patterns = [
            (self._matcher(pattern), self._part(one)) for pattern, one in schema.get("patternProperties", {}).items()
        ]
        part.others = self._named(schema, "additionalProperties", "unevaluatedProperties")
        part.prefix = [self._part(one) for one in schema.get("prefixItems", ())]
        part.items = self._named(schema, "items", "unevaluatedItems")
        part.every_item = self._named(schema, "contains")

    def _named(self, schema: Mapping[str, Any], *names: str) -> list[Part]:
        return [self._part(schema[name]) for name in names if name in schema]

    def _target(self, reference: str) -> Any:
        fragment = unquote(reference.removeprefix("#"))
        found: Any = self._schema
        if fragment and not fragment.startswith("/"):
            found = self._anchors.get(fragment)
        else:
            for token in fragment.split("/")[1:]:
                found = _step(found, unescaped(token))
        if not isinstance(found, dict | bool):
            raise DanglingError(reference)
        return found

    def _lead(self) -> None:
        """Find out which parts lead to one that is secret, from those backwards."""
        named_by: dict[Part, list[Part]] = {}
        for part in self._parts.values():
            for one in part.parts():
                named_by.setdefault(one, []).append(part)
        waiting = [part for part in self._parts.values() if part.secret]
        while waiting:
            for part in named_by.get(waiting.pop(), ()):
                if not part.leads:
                    part.leads = True
                    waiting.append(part)

    def _rank(self) -> None:
        order = TopologicalSorter({part: part.beside for part in self._parts.values()})
        try:
            for rank, part in enumerate(reversed(list(order.static_order()))):
                part.rank = rank
        except CycleError:
            raise EndlessError from None


def applying(counts: Counter[Part]) -> Counter[Part]:
    """Add to the parts that apply to a place all that apply beside them; how often each does."""
    if not any(part.beside for part in counts):
        return counts
    found = Counter(counts)
    waiting = [(part.rank, id(part), part) for part in counts]
    heapq.heapify(waiting)
    while waiting:  # by rank: when a part is reached, it is known how often it applies
        _, _, part = heapq.heappop(waiting)
        for one in part.beside:
            if one not in found:
                heapq.heappush(waiting, (one.rank, id(one), one))
            found[one] += found[part]
    return found


def children(value: Any) -> Iterator[tuple[Step, Any]]:
    """Give the members of an object by their names, the items of an array by their places."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _size(keyword: Any) -> int:
    return len(keyword) if isinstance(keyword, dict | list) else 0


def _step(value: Any, token: str) -> Any:
    if isinstance(value, dict):
        return value.get(token)
    return value[int(token)] if isinstance(value, list) and token.isdecimal() and int(token) < len(value) else None


def _find_anchors(value: Any, found: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for anchor in {value[name] for name in _ANCHORS if isinstance(value.get(name), str)}:
            if anchor in found:  # one of them may be data, in examples say; the validator would know which
                raise AmbiguousError(anchor)
            found[anchor] = value
    for _, child in children(value):
        _find_anchors(child, found)
