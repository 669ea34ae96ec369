"""What an operator can set, and where from.

Strongest first: the command line, ``SETPOINT_…`` in the environment, a file that ``SETPOINT_…_FILE`` names (secrets
only), the TOML file given with ``--config``, the default. An empty variable counts as not set.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from setpoint_contracts import strictjson
from setpoint_contracts.config import MAX_CONFIG_KEYS
from setpoint_contracts.config_schema import MAX_SCHEMA_BYTES
from setpoint_contracts.misfits import misfits
from setpoint_contracts.redaction import MAX_SECRETS
from setpoint_contracts.retention import MAX_KEEP_DAYS, MAX_KEEP_VERSIONS
from setpoint_contracts.system import Limits
from setpointd.errors import OperatorError

ENV_PREFIX = "SETPOINT_"
SECRETS = ("broker", "broker_password")
"""Settings that hold a secret, which may also be given as a file."""

_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}
# A principal, a jti and the fixed levels take up to 143 of the 256 bytes and 5 of the 64 levels of a reply topic.
_MAX_PREFIX_BYTES = 100
_MAX_PREFIX_LEVELS = 16
_MAX_UINT32 = 2**32 - 1  # MQTT 5, section 1.5.3
_MAX_UINT16 = 2**16 - 1

_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

_ClientId = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]


class Settings(BaseModel):
    """All settings of one run of the daemon. ``repr`` shows no secret."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    data_dir: Path = Field(description="Directory with the store and its keys, as `setpointd init` makes it.")
    broker: str = Field(
        default="mqtt://127.0.0.1:1883",
        repr=False,
        description="The broker, mqtt[s]://[user[:password]@]host[:port]; user and password percent-encoded.",
    )
    broker_password: SecretStr | None = Field(
        default=None,
        description="The broker's password. On a command line other users can see it; better give it as a file.",
    )
    broker_ca: Path | None = Field(
        default=None,
        description="PEM file with the authorities to trust for mqtts://, instead of the system's.",
    )
    http: str = Field(
        default="127.0.0.1:8765",
        description="Where health and metrics are served, HOST:PORT; port 0 takes a free one.",
    )
    topic_prefix: str = Field(default="", description="Stands before every topic, e.g. site1/.")
    client_id: _ClientId = Field(
        default="setpoint-config-manager",
        description="The daemon's MQTT client id; to the default a topic prefix is added. Commands wait under it.",
    )
    session_expiry_s: int = Field(
        default=604_800,
        ge=1,
        le=_MAX_UINT32,
        description="How long the broker keeps commands for a daemon that is down, in seconds.",
    )
    receive_maximum: int = Field(
        default=256,
        ge=1,
        le=_MAX_UINT16,
        description="How many commands the broker may send before the first is acknowledged.",
    )
    keep_alive_s: int = Field(
        default=15,
        ge=1,
        le=_MAX_UINT16,
        description="A broker that is silent for twice as long is taken for lost, in seconds.",
    )
    max_command_bytes: int = Field(
        default=262_144,
        ge=1024,
        le=16_777_216,
        description="The largest signed command taken, in bytes.",
    )
    max_command_lifetime_s: int = Field(
        default=86_400,
        ge=1,
        le=31_536_000,
        description="The longest time from iat to exp of a command, in seconds.",
    )
    max_clock_skew_s: int = Field(
        default=60,
        ge=0,
        le=86_400,
        description="How far a command's iat may be ahead of the clock here, in seconds.",
    )
    max_config_bytes: int = Field(
        default=131_072,
        ge=2,
        le=16_777_216,
        description="The largest config of one service, in bytes of JSON.",
    )
    tombstone_keep_days: int = Field(
        default=30,
        ge=1,
        le=36_500,
        description="How long the tombstone of a deleted service stays retained, in days.",
    )
    history_keep_days: int | None = Field(
        default=None,
        ge=1,
        le=MAX_KEEP_DAYS,
        description="Remove versions that were replaced so many days ago; not set, they stay.",
    )
    history_keep_versions: int | None = Field(
        default=None,
        ge=1,
        le=MAX_KEEP_VERSIONS,
        description="Keep so many versions of a service, and remove older ones (if both are set, when both say so).",
    )
    require_expected_version: bool = Field(
        default=False,
        description="Refuse writes that do not say which version they replace.",
    )
    rate_limit_per_s: int = Field(
        default=500,
        ge=0,
        le=1_000_000,
        description="How many commands a second one principal may send, and twice as many at once; 0: any number.",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="How to log to standard error; auto is console on a terminal, else json.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="The lowest level to log.",
    )

    @classmethod
    def load(cls, command_line: Mapping[str, Any], config: Path | None = None) -> Self:
        """Gather the settings from all sources; ``command_line`` holds what was given there, by field name.

        Raises ``OperatorError``, one line that names the setting and how to give it, and quotes no secret.
        """
        try:
            from_environment = _from_environment(cls.model_fields)
            return cls.model_validate(_from_toml(config) | _from_secret_files() | from_environment | dict(command_line))
        except ValidationError as error:
            raise OperatorError(_explain(error, config)) from None
        except OSError as error:
            raise OperatorError(f"{error.filename} cannot be read: {error.strerror}") from None
        except ValueError as error:  # tomllib's: what is wrong, and in which line
            raise OperatorError(f"{config} is not a TOML file: {error}") from None

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        # Only TOML has them; pydantic takes them for 1 and 0.
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in {int, int | None}:
            raise ValueError("give a number")
        return value

    @field_validator("broker")
    @classmethod
    def _is_broker_url(cls, url: str) -> str:
        form = "write mqtt://host, mqtts://host:8883 or mqtt://user:password@host, percent-encoded (%2F for /)"
        try:
            parts = urlsplit(url)
            fits = parts.scheme in _DEFAULT_PORTS and parts.hostname and parts.port != 0 and url.isprintable()
            (parts.hostname or "").encode("idna")  # as the resolver will
            rest = parts.path.strip("/") or parts.query or parts.fragment or _STRAY_PERCENT.search(parts.netloc)
            for secret in (parts.username, parts.password):
                unquote(secret or "", errors="strict")
        except ValueError:  # a port that is none, a bracket that does not close, bytes that are not UTF-8
            raise ValueError(form) from None
        if not fits or rest or " " in url:
            raise ValueError(form)
        return url

    @field_validator("http")
    @classmethod
    def _is_host_and_port(cls, address: str) -> str:
        form = "write HOST:PORT, e.g. 127.0.0.1:8765 or [::1]:8765"
        try:
            parts = _split_address(address)
            fits = parts.hostname and parts.port is not None and parts.netloc == address and "@" not in address
        except ValueError:
            raise ValueError(form) from None
        if not fits or not address.isprintable() or " " in address:
            raise ValueError(form)
        return address

    @field_validator("topic_prefix")
    @classmethod
    def _is_topic_prefix(cls, prefix: str) -> str:
        if prefix and not prefix.endswith("/"):
            raise ValueError(f"a prefix ends with a slash: {prefix + '/'!r}")
        if not prefix.isprintable() or set("+#") & set(prefix):
            raise ValueError("a prefix has neither wildcards (+ and #) nor control characters")
        if prefix.startswith("$"):
            raise ValueError("topics that begin with $ are the broker's own")
        if len(prefix.encode()) > _MAX_PREFIX_BYTES or prefix.count("/") > _MAX_PREFIX_LEVELS:
            raise ValueError(f"a prefix has at most {_MAX_PREFIX_BYTES} bytes and {_MAX_PREFIX_LEVELS} levels")
        return prefix

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.broker_password is not None:
            if self._broker.password is not None:
                raise ValueError("there is a password in broker and one in broker_password: give one of them")
            if not self.broker_user:
                raise ValueError("broker_password needs a user in broker: mqtt://user@host")
        if self.broker_ca is not None and not self.broker_tls:
            raise ValueError("broker_ca is for an encrypted connection: broker must begin with mqtts://")
        return self

    @property
    def _broker(self) -> SplitResult:
        return urlsplit(self.broker)

    @property
    def broker_host(self) -> str:
        """Name or address of the broker, IPv6 without brackets."""
        return self._broker.hostname or ""

    @property
    def broker_port(self) -> int:
        """Port of the broker; 1883 unless given, 8883 with TLS."""
        return self._broker.port or _DEFAULT_PORTS[self._broker.scheme]

    @property
    def broker_user(self) -> str | None:
        """User name for the broker."""
        return unquote(self._broker.username) if self._broker.username else None

    @property
    def broker_secret(self) -> SecretStr | None:
        """Password for the broker, whichever way it was given."""
        inside = self._broker.password
        return self.broker_password if inside is None else SecretStr(unquote(inside))

    @property
    def broker_tls(self) -> bool:
        """Whether the connection to the broker is encrypted."""
        return self._broker.scheme == "mqtts"

    @property
    def http_host(self) -> str:
        """Where to listen for HTTP: a name or an address, IPv6 without brackets."""
        return _split_address(self.http).hostname or ""

    @property
    def http_port(self) -> int:
        """The port to listen on for HTTP; 0 takes a free one."""
        return _split_address(self.http).port or 0

    @property
    def session_id(self) -> str:
        """The client id in use. Daemons with different prefixes on one broker must not share a session by default."""
        chosen = "client_id" in self.model_fields_set or not self.topic_prefix
        return self.client_id if chosen else f"{self.client_id}:{self.topic_prefix.rstrip('/')}"

    @property
    def limits(self) -> Limits:
        """What the daemon takes at most, as ``info`` tells it."""
        return Limits(
            max_command_bytes=self.max_command_bytes,
            max_command_lifetime_s=self.max_command_lifetime_s,
            max_clock_skew_s=self.max_clock_skew_s,
            max_config_bytes=self.max_config_bytes,
            max_config_keys=MAX_CONFIG_KEYS,
            max_json_levels=strictjson.MAX_DEPTH,
            max_schema_bytes=MAX_SCHEMA_BYTES,
            max_secrets=MAX_SECRETS,
            max_packet_bytes=None,  # the broker's to say
            tombstone_keep_days=self.tombstone_keep_days,
            require_expected_version=self.require_expected_version,
            rate_limit_per_s=self.rate_limit_per_s,
            rate_limit_burst=2 * self.rate_limit_per_s,
        )


def option(name: str) -> str:
    """Return the command line option of a setting."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return ENV_PREFIX + name.upper()


def _split_address(address: str) -> SplitResult:
    return urlsplit(f"//{address}")


def _from_toml(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    import tomllib  # noqa: PLC0415 - few have such a file

    if not config.is_file():
        raise OperatorError(f"{config} is not there, or not a file")
    return tomllib.loads(config.read_bytes().decode())


def _from_environment(names: Iterable[str]) -> dict[str, str]:
    """Return what variables say, in capitals or not."""
    given = {name.upper(): value for name, value in os.environ.items() if value}
    return {name: given[variable(name)] for name in names if variable(name) in given}


def _from_secret_files() -> dict[str, str]:
    found = {}
    for name in SECRETS:
        named = variable(name) + "_FILE"
        if path := os.environ.get(named):
            try:
                found[name] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
                if not found[name]:
                    raise OperatorError(f"{named}: {path} is empty")
            except UnicodeDecodeError:
                raise OperatorError(f"{named}: {path} is not UTF-8 text") from None
            except OSError as error:
                raise OperatorError(f"{named}: {path} cannot be read: {error.strerror}") from None
    return found


def _explain(error: ValidationError, config: Path | None) -> str:
    """Put the first problem into one line. Inputs stay out of it: one of them may be a secret."""
    first = misfits(error, 1)[0]
    name, message = first["field"], first["message"]
    if not name:
        return message
    if first["type"] == "extra_forbidden":  # only a TOML file can name a setting that does not exist
        return f"{config}: there is no setting {name!r}"
    ways = [option(name), variable(name), *([f"{variable(name)}_FILE"] if name in SECRETS else [])]
    given = f"give it as {', '.join(ways)}, or as {name} in a --config file"
    return f"{name} is missing: {given}" if first["type"] == "missing" else f"{name}: {message} ({given})"
