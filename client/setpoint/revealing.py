"""The secrets of a service: asked for, put into its config, and sealed for the cache (wire section 6, "Secrets").

Rules:

- A secret is known by its tag, which changes exactly when the value does: a value that is known is not asked for again.
- Values are in memory, in what ``sealed`` makes with a key that comes from the client's own token, and nowhere else.
- A secret that may not be seen is left out of the config, so that the model's default holds. Inside of a list, where
  leaving out would move the others, the whole list is.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from setpoint_contracts import Token, open_sealed, seal_for, strictjson
from setpoint_contracts.pointers import Step, pointer
from setpoint_contracts.redaction import tag_of
from setpoint_contracts.sealing import SECRETS_INFO, NotSealedError

logger = logging.getLogger("setpoint")

Json = Any
Path = tuple[Step, ...]
Call = Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""Send a command by its name and return its ``result``; raises ``SetpointError``."""

_CACHE_INFO = "setpoint/cache"
"""The ``info`` of what is sealed for the cache: an object of the service, and its values by their tags."""


class Secrets:
    """The values of one service's secrets, as far as they are known. ``repr`` shows none.

    ``call`` is None for a client that cannot ask; ``token`` is its token, of which HS256 ones can open what is sealed.
    """

    def __init__(self, service: str, token: Token | None, call: Call | None) -> None:
        self._service = service
        self._key = token.signing_key() if token is not None and token.alg == "HS256" else None
        self._call = call
        self._values: dict[str, Json] = {}

    @property
    def may_ask(self) -> bool:
        """Whether the client has a token for which the daemon can seal secrets."""
        return self._key is not None and self._call is not None

    def are_known(self, config: Mapping[str, Json]) -> bool:
        """Whether the values of all secrets in a config are known."""
        return all(tag in self._values for _, tag in tags_in(config))

    async def ask(self, version: int) -> None:
        """Ask the daemon for the secrets of a version, and keep their values. Raises ``SetpointError``."""
        if self._key is None or self._call is None:
            return
        params = {"service": self._service, "version": version, "reveal": True}
        result = await self._call("get", params)
        shown, sealed = result.get("config"), result.get("secrets_jwe")
        if not isinstance(shown, dict) or not isinstance(sealed, str):
            return
        try:
            values = strictjson.loads(open_sealed(self._key, SECRETS_INFO, sealed))
        except (NotSealedError, strictjson.InvalidJsonError):
            logger.warning("the secrets of %s came sealed for another token", self._service)
            return
        for path, tag in tags_in(shown):
            if pointer(path) in values:
                self._values[tag] = values[pointer(path)]

    def put_in(self, config: Mapping[str, Json]) -> tuple[dict[str, Json], list[Path], list[str]]:
        """Return a config with the values in it, the places where they stand, and pointers to what is missing."""
        found = list(tags_in(config))
        missing = [path for path, tag in found if tag not in self._values]
        left_out = {_whole(path) for path in missing}
        filled = _rebuilt(config, (), self._values, left_out)
        return filled, [path for path, tag in found if tag in self._values], [pointer(path) for path in missing]

    def sealed(self, config: Mapping[str, Json]) -> str | None:
        """Seal the values of a config for the cache; None when it has no secrets, or not all are known."""
        tags = {tag for _, tag in tags_in(config)}
        if not tags or self._key is None or not tags <= self._values.keys():
            return None
        content = {"service": self._service, "values": {tag: self._values[tag] for tag in sorted(tags)}}
        return seal_for(self._key, _CACHE_INFO, strictjson.dumps(content).encode())

    def open_cached(self, sealed: str) -> bool:
        """Take the values of what ``sealed`` made; whether it was made for this service and token."""
        if self._key is None:
            return False
        try:
            content = strictjson.loads(open_sealed(self._key, _CACHE_INFO, sealed))
        except (NotSealedError, strictjson.InvalidJsonError):
            return False
        if content.get("service") != self._service:
            return False
        self._values.update(content["values"])
        return True

    def forget_all_but(self, *configs: Mapping[str, Json] | None) -> None:
        """Forget the values that stand in none of these configs."""
        tags = {tag for config in configs for _, tag in tags_in(config or {})}
        self._values = {tag: value for tag, value in self._values.items() if tag in tags}


def tags_in(value: Json, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Go through what stands for secrets in a config: where, and with which tag."""
    if (tag := tag_of(value)) is not None:
        yield path, tag
    elif isinstance(value, Mapping):
        for name, member in value.items():
            yield from tags_in(member, (*path, name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from tags_in(item, (*path, place))


def _whole(path: Path) -> Path:
    """The member to leave out for a secret: itself, or the outermost list that it is in."""
    lists = [depth for depth, step in enumerate(path) if isinstance(step, int)]
    return path[: lists[0]] if lists else path


def _rebuilt(value: Json, path: Path, values: Mapping[str, Json], left_out: set[Path]) -> Json:
    """Put values in by their tags; what is left out holds all of which there is none."""
    if (tag := tag_of(value)) is not None:
        return values[tag]
    if isinstance(value, Mapping):
        members = ((name, (*path, name), member) for name, member in value.items())
        return {name: _rebuilt(member, at, values, left_out) for name, at, member in members if at not in left_out}
    if isinstance(value, list):
        return [_rebuilt(item, (*path, place), values, left_out) for place, item in enumerate(value)]
    return value
