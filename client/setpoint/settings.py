"""What a client is told: by its arguments, else by the environment, else what is usual on such a machine."""

import json
import os
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from setpoint.errors import ConfigurationError
from setpoint_contracts import Token, Topics
from setpoint_contracts.keys import public_key
from setpoint_contracts.names import INSTANCE_PATTERN
from setpoint_contracts.tokens import TokenFileError

DEFAULT_URL = "mqtt://127.0.0.1:1883"
DEFAULT_TIMEOUT_S = 10.0

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_DEFAULT_WS_PATH = "/mqtt"
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_URL_FORM = "write mqtt://host, mqtts://host:8883, ws://host:9001/mqtt or mqtt://user:password@host, percent-encoded"

Jwk = Mapping[str, Any]
Keys = str | os.PathLike[str] | Jwk | Sequence[Jwk]
"""Public keys of a daemon: a JWK, several of them, a JWK Set (RFC 7517), or the path of a file with one of these."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is, and how to get in. ``repr`` shows no password."""

    host: str
    port: int
    transport: Literal["tcp", "websockets"] = "tcp"
    path: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a client goes by; ``token`` is None for one that only follows, ``keys`` for first use."""

    broker: Broker
    token: Token | None
    topics: Topics
    cache_dir: Path
    instance: str
    keys: tuple[Jwk, ...] | None


def settle(
    url: str | None,
    token: str | os.PathLike[str] | Token | None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    instance: str | None = None,
    keys: Keys | None = None,
    topic_prefix: str | None = None,
    tls: ssl.SSLContext | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Put arguments and environment together; raises ``ConfigurationError``, which says what to do."""
    env = environment.get
    return Settings(
        broker=_broker(url or env("SETPOINT_BROKER_URL") or DEFAULT_URL, tls, environment),
        token=_token(token if token is not None else env("SETPOINT_TOKEN") or None),
        topics=Topics(_prefix(topic_prefix if topic_prefix is not None else env("SETPOINT_TOPIC_PREFIX", ""))),
        cache_dir=Path(cache_dir) if cache_dir is not None else _cache_dir(environment),
        instance=_instance(instance or env("SETPOINT_INSTANCE") or None),
        keys=_keys(keys if keys is not None else env("SETPOINT_KEYS") or None),
    )


def _broker(url: str, tls: ssl.SSLContext | None, environment: Mapping[str, str]) -> Broker:
    parts = _split(url)
    encrypted, websocket = parts.scheme in {"mqtts", "wss"}, parts.scheme in {"ws", "wss"}
    if parts.path.strip("/") and not websocket:
        raise ConfigurationError(f"the broker's URL has a path, which only ws:// and wss:// have: {_URL_FORM}")
    if tls is not None and not encrypted:
        raise ConfigurationError("there is a TLS context, but the broker's URL begins with neither mqtts:// nor wss://")
    return Broker(
        host=parts.hostname or "",
        port=parts.port or _PORTS[parts.scheme],
        transport="websockets" if websocket else "tcp",
        path=(parts.path or _DEFAULT_WS_PATH) if websocket else None,
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=(tls or _tls(environment)) if encrypted else None,
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in _PORTS and parts.hostname and parts.port != 0 and url.isprintable() and " " not in url
        (parts.hostname or "").encode("idna")  # as the resolver will
        for secret in (parts.username, parts.password):
            unquote(secret or "", errors="strict")
    except ValueError:
        fits = False
    # The URL itself is not repeated: it may hold a password.
    if not fits or parts.query or parts.fragment or _STRAY_PERCENT.search(parts.netloc):
        raise ConfigurationError(f"that is no URL of a broker: {_URL_FORM}")
    return parts


def _tls(environment: Mapping[str, str]) -> ssl.SSLContext:
    ca, cert, key = (environment.get(f"SETPOINT_BROKER_{name}") for name in ("CA", "CERT", "KEY"))
    if key and not cert:
        raise ConfigurationError("SETPOINT_BROKER_KEY needs the certificate that it belongs to: SETPOINT_BROKER_CERT")
    return tls_context(ca, cert, key)


def tls_context(
    ca: str | os.PathLike[str] | None = None,
    cert: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> ssl.SSLContext:
    """Make a TLS context of PEM files: who is trusted (else the system's authorities), and the client's certificate.

    Raises ``ConfigurationError``.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the CA file {ca} cannot be used: {error.strerror or 'no certificate in it'}"
        ) from None
    if cert:
        try:
            context.load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"the client certificate {cert} cannot be used: {error.strerror}") from None
    return context


def _token(token: str | os.PathLike[str] | Token | None) -> Token | None:
    found = token if token is None or isinstance(token, Token) else _read_token(Path(token))
    if found is not None and found.alg == "Ed25519" and not found.d:
        raise ConfigurationError(f"the token {found.kid} has no private key (d), and so cannot sign")
    return found


def _read_token(path: Path) -> Token:
    try:
        return Token.load(path)
    except TokenFileError as error:
        raise ConfigurationError(f"{path} is no token file: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"the token file {path} cannot be read: {error.strerror}") from None


def _prefix(prefix: str) -> str:
    if prefix and (not prefix.endswith("/") or not prefix.isprintable() or set("+#") & set(prefix)):
        raise ConfigurationError(
            f"a topic prefix ends with a slash and has no wildcard, e.g. site1/; this is {prefix!r}"
        )
    return prefix


def _cache_dir(environment: Mapping[str, str]) -> Path:
    if chosen := environment.get("SETPOINT_CACHE_DIR"):
        return Path(chosen)
    if state := environment.get("STATE_DIRECTORY"):  # systemd.exec(5): several are joined by colons
        return Path(state.split(":")[0])
    home = environment.get("XDG_STATE_HOME") or Path(environment.get("HOME") or "/var/lib") / ".local" / "state"
    return Path(home) / "setpoint"


def _instance(name: str | None) -> str:
    if name is None:
        return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "instance"
    if not re.fullmatch(INSTANCE_PATTERN, name) or "\n" in name:
        raise ConfigurationError(f"an instance has 1 to 64 of A-Z a-z 0-9 . _ - as its name; this is {name!r}")
    return name


def _keys(keys: Keys | None) -> tuple[Jwk, ...] | None:
    if keys is None:
        return None
    where = "the keys"
    if isinstance(keys, str | os.PathLike):
        where = str(keys)
        keys = _read_keys(Path(keys))
    found = keys.get("keys", [keys]) if isinstance(keys, Mapping) else keys
    public = tuple(_public(jwk) for jwk in found) if isinstance(found, Sequence) else ()
    if not public or None in public:
        raise ConfigurationError(f"{where}: give the daemon's public Ed25519 JWK, or a JWK Set of them")
    return tuple(jwk for jwk in public if jwk is not None)


def _read_keys(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"the keys {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError(f"{path} is no JWK and no JWK Set: it is not JSON") from None


def _public(jwk: Any) -> Jwk | None:
    if not isinstance(jwk, Mapping) or (jwk.get("kty"), jwk.get("crv")) != ("OKP", "Ed25519"):
        return None
    try:
        public_key(str(jwk.get("x")))
    except ValueError:
        return None
    if not isinstance(jwk.get("kid"), str):
        return None
    return {"kty": "OKP", "crv": "Ed25519", "kid": jwk["kid"], "x": jwk["x"]}
