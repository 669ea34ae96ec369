"""Whom a client believes: keys of the daemon, given or pinned at first use (contracts/following.md, rules 1 to 3).

Rules:

- Keys that are given are all that counts. Without any, the key of the first key set whose signature holds with a key
  in that same set is pinned, and kept before anything else is believed.
- Nothing that comes from the broker changes, adds or removes a pinned key.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from setpoint_contracts import strictjson, verify_detached
from setpoint_contracts.keys import public_key
from setpoint_contracts.signing import VerifyingKey

Jwk = Mapping[str, Any]
KeySetOutcome = Literal["known_key", "pinned", "other_key"]

_MEMBERS = ("kty", "crv", "kid", "x")
_MOST_KEYS = 16  # of a set that anybody may send: each costs a signature to check


class Trust:
    """The pinned keys of one daemon.

    ``pinned`` are public Ed25519 JWKs that are believed from the start.
    """

    def __init__(self, pinned: Iterable[Jwk] = ()) -> None:
        self._keys: list[tuple[Jwk, VerifyingKey]] = []
        self._on_pinned: list[Callable[[], None]] = []
        self._pin(pinned)

    @property
    def pinned(self) -> list[Jwk]:
        """The public JWKs that are believed; none before first use."""
        return [jwk for jwk, _ in self._keys]

    def on_pinned(self, pinned: Callable[[], None]) -> None:
        """Call something once, when a key is pinned at first use."""
        self._on_pinned.append(pinned)

    def believe(self, keys: Iterable[Jwk]) -> None:
        """Pin keys that are on disk; no effect when some are pinned already."""
        if not self._keys:
            self._pin(keys)

    def signed_by_pinned(self, topic: str, payload: bytes, jws: str) -> bool:
        """Whether a pinned key made this signature over this payload on this topic."""
        return any(verify_detached(payload, topic, jws, jwk["kid"], key) for jwk, key in self._keys)

    def take_key_set(self, topic: str, payload: bytes, jws: str) -> KeySetOutcome:
        """Take what came on the key set's topic; the outcome in the words of following.md's table.

        The first key is pinned at once: who is to keep it on disk before asks ``signer``, and then tells ``believe``.
        """
        if self._keys:
            return "known_key" if self.signed_by_pinned(topic, payload, jws) else "other_key"
        signer = self.signer(topic, payload, jws)
        if signer is None:
            return "other_key"
        self._pin([signer])
        return "pinned"

    def signer(self, topic: str, payload: bytes, jws: str) -> Jwk | None:
        """Find the key of a set that signed the set itself: at first use the one to pin."""
        try:
            found = strictjson.loads(payload)
        except strictjson.InvalidJsonError:
            return None
        keys = found.get("keys") if isinstance(found, dict) else None
        for jwk in keys[:_MOST_KEYS] if isinstance(keys, list) else ():
            key = _verifying(jwk)
            if key is not None and verify_detached(payload, topic, jws, jwk["kid"], key):
                return {name: jwk[name] for name in _MEMBERS}
        return None

    def _pin(self, keys: Iterable[Jwk]) -> None:
        found = [(jwk, key) for jwk in keys if (key := _verifying(jwk)) is not None]
        self._keys = [({name: jwk[name] for name in _MEMBERS}, key) for jwk, key in found]
        callbacks, self._on_pinned = (self._on_pinned, []) if self._keys else ([], self._on_pinned)
        for pinned in callbacks:
            pinned()


def is_public_key(jwk: object) -> bool:
    """Whether a JSON value is a public Ed25519 JWK with a ``kid``."""
    return _verifying(jwk) is not None


def _verifying(jwk: Any) -> VerifyingKey | None:
    try:
        kind, kid, x = (jwk["kty"], jwk["crv"]), jwk["kid"], str(jwk["x"])
        key = public_key(x)
    except (TypeError, KeyError, ValueError):
        return None
    return VerifyingKey("Ed25519", key) if kind == ("OKP", "Ed25519") and isinstance(kid, str) else None
