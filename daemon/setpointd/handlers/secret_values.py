"""The secret values of one service: opened for a moment, concealed before anything is stored or said.

Rules (wire section 6, "Secrets"):

- In the store, and in all that leaves it, a secret is ``{"$secret": tag}``. So whoever reads, compares, restores or
  publishes a config knows nothing of secrets; values are opened here, to be checked, merged or revealed.
- A place is secret when the schema marks it, or when what is written there stands for a secret: what was concealed once
  stays so, whatever becomes of the schema.
- A tag is keyed by the store. Two values of a service never share one, and a value keeps its own.
"""

from collections.abc import Callable, Collection
from typing import Any

from setpoint_contracts import Code, strictjson
from setpoint_contracts.pointers import Step, pointer, unescaped
from setpoint_contracts.redaction import MAX_SECRETS, MEMBER, is_secret, shown, tag_of
from setpointd.call import Call
from setpointd.errors import BadRequest, Rejected, UnreadableError
from setpointd.records import SealedValue
from setpointd.schema import Schema
from setpointd.store import Snapshot, Tx

_TAG_BYTES = 4
_MISFIT = {"pointer": "", "message": "the config did not fit its schema", "keyword": ""}
"""What is left of why a config did not fit: a pointer may lead into what is a secret since."""

Path = tuple[Step, ...]
Json = Any


class SecretValues:
    """Those of a service, as a snapshot has them, and those that were met since."""

    def __init__(self, snapshot: Snapshot, call: Call, service: str) -> None:
        self.service = service
        self._stored = snapshot.secrets
        self._keys = call.daemon.keys
        self._met: dict[str, SealedValue] = {}
        self._fresh: dict[str, SealedValue] = {}

    def value(self, tag: str) -> Json:
        """Open a secret. ``UnreadableError``: the store has none of that tag, or cannot open it."""
        known = self._find(tag)
        if known is None:
            raise UnreadableError("a row of the store cannot be read: a config names a secret that is not there")
        return strictjson.loads_stored(self._keys.open_value(self.service, tag, known.sealed))

    def shown_value(self, secret: Json) -> Json:
        """Open what stands for a secret in a config of the store."""
        return self.value(tag_of(secret) or "")

    def conceal(self, value: Json) -> dict[str, Any]:
        """Return what stands for a value."""
        text = strictjson.canonical(value)
        digest = self._keys.secret_digest(self.service, text)
        tags = [digest[start : start + _TAG_BYTES].hex() for start in range(0, len(digest), _TAG_BYTES)]
        free = None
        for tag in tags:  # 32 bits are few: another value of the service may have the first of them
            known = self._find(tag)
            if known is not None and known.digest == digest:
                return shown(tag)
            if known is None and free is None:
                free = tag
        if free is None:
            raise UnreadableError("a secret has no tag left")  # eight others of the service have its tags
        self._met[free] = self._fresh[free] = SealedValue(digest, self._keys.seal_value(self.service, free, text))
        return shown(free)

    def opened(self, config: Json, among: Collection[str] | None, field: str) -> tuple[Json, set[Path]]:
        """Put the values into a config, and tell where.

        With ``among``, only secrets with these tags may stand in it; ``BadRequest`` below ``field`` for others.
        """
        places = set()

        def open_one(path: Path, value: Json) -> Json:
            if not is_secret(value):
                return value
            tag = tag_of(value)
            if tag is None or (among is not None and tag not in among):
                where = ".".join(map(str, (field, *path)))
                text = (
                    f"has the member {MEMBER}, and is no secret that the newest version holds; write the value itself"
                )
                raise BadRequest(where, text, "unknown_secret")
            places.add(path)
            return self.value(tag)

        return _rebuilt(config, (), open_one), places

    def reopened(self, config: Json) -> tuple[Json, set[Path]]:
        """Put the values into a config of any time, and tell where; one whose value is gone stays as it is shown."""
        places = set()

        def open_one(path: Path, value: Json) -> Json:
            if (tag := tag_of(value)) is None or self._find(tag) is None:
                return value
            places.add(path)
            return self.value(tag)

        return _rebuilt(config, (), open_one), places

    def concealed(self, config: Json, places: Collection[Path]) -> Json:
        """Replace the values at some places by what stands for them; what stands for one already stays."""
        for path in sorted(places, key=len):  # the outermost first: it is one secret with all that is inside
            config = _with(config, path, self.conceal)
        return config

    def keep(self, tx: Tx) -> None:
        """Store the values that were concealed and are new, before the version that names them is written."""
        if self._fresh:
            tx.secrets.add(self.service, self._fresh)
            self._fresh = {}

    def revealed(self, config: Json) -> dict[str, Json]:
        """Give the values of all secrets in a config, by the JSON Pointers of their places."""
        found = {}

        def reveal_one(path: Path, value: Json) -> Json:
            if (tag := tag_of(value)) is not None:
                found[pointer(path)] = self.value(tag)
            return value

        _rebuilt(config, (), reveal_one)
        return found

    def _find(self, tag: str) -> SealedValue | None:
        known = self._met.get(tag) or self._stored.find(self.service, tag)
        if known is not None:
            self._met[tag] = known
        return known


def check_count(places: Collection[Path]) -> None:
    """Refuse a config of too many secrets: opening each takes time, also that of who reads."""
    if len(places) > MAX_SECRETS:
        message = f"the config has {len(places)} secrets; at most {MAX_SECRETS} are allowed"
        raise Rejected(Code.TOO_LARGE, message, secrets=len(places), max_secrets=MAX_SECRETS)


def conceal_past(tx: Tx, call: Call, service: str, schema: Schema) -> bool:
    """Conceal what a schema marks wherever the store holds it in clear: versions, keys, history and stored replies.

    Returns whether the newest version held something of it. Then there is a new one: what is published of a version
    never changes, and who follows has to hear.
    """
    before = tx.config.current(service)
    values = SecretValues(tx, call, service)

    def concealed(config: Json) -> Json:
        config, places = values.reopened(config)  # what is marked now may hold what was secret before
        places |= schema.secret_places(service, config)
        if len(places) > MAX_SECRETS:  # of an old version; opening it must not take long
            places = {path[:1] for path in places}
        return values.concealed(config, places)

    def of_version(config: Json) -> Json:
        changed = concealed(config)
        values.keep(tx)
        return changed

    tx.secrets.rewrite_versions(service, of_version)
    tx.secrets.rewrite_keys(service, lambda key, value: concealed({key: value})[key])
    tx.secrets.rewrite_replies(service, lambda reply: _Replies(service, values, concealed).concealed(reply))
    tx.scrubs = True
    after = tx.config.current(service)
    if before is None or after is None or before.config == after.config:
        return False
    tx.config.renew(service, after, op="conceal")
    return True


class _Replies:
    """Finds the configs and differences of a service in replies (wire section 4)."""

    def __init__(self, service: str, values: SecretValues, concealed: Callable[[Json], Json]) -> None:
        self._service = service
        self._values = values
        self._concealed = concealed

    def concealed(self, value: Json) -> Json:
        """Conceal the values of the service in a part of a reply."""
        if isinstance(value, list):
            return [self.concealed(item) for item in value]
        if not isinstance(value, dict):
            return value
        ours = value.get("service") == self._service
        changed = dict(value)
        for name, member in value.items():
            if name == "config":  # what a config holds is no part of a reply, whatever it looks like
                changed[name] = self._concealed(member) if ours else member
            elif name == "diff":
                changed[name] = self._differences(member) if ours else member
            elif name in {"errors", "failing"} and ours and member:
                changed[name] = [_MISFIT]
            else:
                changed[name] = self.concealed(member)
        if changed.get("details") != value.get("details") and value.get("code") == Code.SCHEMA_INVALID:
            changed["message"] = _MISFIT["message"]
        return changed

    def _differences(self, differences: list[dict[str, Json]]) -> list[dict[str, Json]]:
        """Conceal the values of differences; those inside of what is secret as a whole become one."""
        found: list[dict[str, Json]] = []
        inside: dict[str, dict[str, dict[str, Json]]] = {}
        for difference in differences:
            path = [unescaped(token) for token in difference["path"].split("/")[1:]]
            sides: dict[str, Json] = {side: difference[side] for side in ("old", "new") if side in difference}
            told = {side: self._at(path, value) for side, value in sides.items()}
            whole = min((place for place, _ in told.values()), key=len)
            if len(whole) == len(path):
                found.append(difference | {side: value for side, (_, value) in told.items()})
                continue
            for side, value in sides.items():
                inside.setdefault(pointer(whole), {}).setdefault(side, {})[difference["path"]] = value
        for place, parts in inside.items():
            values = {side: self._values.conceal(part) for side, part in parts.items()}
            found.append({"op": "replace", "path": place, "old": None, "new": None} | values)
        return found

    def _at(self, path: list[str], value: Json) -> tuple[list[str], Json]:
        """Conceal a value that stands somewhere in a config: how far its path is told, and what is shown there."""
        whole = value
        for name in reversed(path):
            whole = {name: whole}
        found = self._concealed(whole)
        for depth, name in enumerate(path):
            if is_secret(found):
                return path[:depth], found
            found = found[name]
        return path, found


def _with(value: Json, path: Path, change: Callable[[Json], Json]) -> Json:
    """Change the value at a place, and leave all else as it is; what stands for a secret is not looked into."""
    if is_secret(value):
        return value
    if not path:
        return change(value)
    copy = value.copy()
    copy[path[0]] = _with(value[path[0]], path[1:], change)
    return copy


def _rebuilt(value: Json, path: Path, change: Callable[[Path, Json], Json]) -> Json:
    """Change a value from the outside in; what was changed is not looked into."""
    changed = change(path, value)
    if changed is not value:
        return changed
    if is_secret(value):
        return value
    if isinstance(value, dict):
        return {name: _rebuilt(child, (*path, name), change) for name, child in value.items()}
    if isinstance(value, list):
        return [_rebuilt(child, (*path, place), change) for place, child in enumerate(value)]
    return value
