"""What is sent: messages for the echoes and signed commands, as packets made before the clock starts."""

from echo import KINDS, asked, echoed
from load import Command, publish_packet

from setpoint_contracts import Token, Topics, sign_command, strictjson

SERVICES = 100
"""Commands go round among so many services, unless told."""
CONFIG_BYTES = 200
_LIFETIME_S = 3600
_WRITES_OF_MIXED = 10  # every tenth command is a `set`


class Commands:
    """Makes signed commands with one token; every batch has a tag of its own, for their ids.

    They go round among ``services``; a config has ``config_bytes`` of JSON.
    """

    def __init__(
        self, token: Token, prefix: str = "", services: int = SERVICES, config_bytes: int = CONFIG_BYTES
    ) -> None:
        self._token = token
        self._topics = Topics(prefix)
        self._services = services
        self._batches = 0
        self.config_bytes = config_bytes
        replies = self._topics.reply(token.name, "#")
        self.filters = (replies, self._topics.all_updated, *(echoed(kind) + "#" for kind in KINDS))
        """What a connection subscribes to that sees answers, updates and echoes."""
        self.replies = (replies,)

    def make(self, kind: str, count: int) -> list[Command]:
        """Commands of a kind by its name."""
        if kind in KINDS:
            return self.echo(kind, count)
        made: list[Command] = getattr(self, kind)(count)
        return made

    def echo(self, kind: str, count: int) -> list[Command]:
        """Messages for an echo: as long as a ``get``, so that it carries the same bytes."""
        payload = sign_command(self._token, "get", {"service": service(0)})
        return [
            Command(publish_packet(number, f"{asked(kind)}{number}", payload), f"{echoed(kind)}{number}".encode())
            for number in range(count)
        ]

    def get(self, count: int) -> list[Command]:
        """Reads, done when their reply comes."""
        self._batches += 1
        return [self._command(number, "get", {}) for number in range(count)]

    def set(self, count: int) -> list[Command]:
        """Writes that each change one key, done when their reply comes."""
        self._batches += 1
        return [self._set(number) for number in range(count)]

    def patch(self, count: int) -> list[Command]:
        """The same writes as merge patches."""
        self._batches += 1
        return [self._command(number, "patch", {"patch": {"serial": self._serial(number)}}) for number in range(count)]

    def mixed(self, count: int) -> list[Command]:
        """Nine reads, then a write, and so on."""
        self._batches += 1
        return [
            self._set(number) if number % _WRITES_OF_MIXED == 0 else self._command(number, "get", {})
            for number in range(count)
        ]

    def update(self, count: int) -> list[Command]:
        """The writes of ``set``, done when the update comes that they cause. One at a time: they conflate."""
        return [
            Command(
                command.packet,
                self._topics.updated(service(number % self._services)).encode(),
                self._serial(number).encode(),
            )
            for number, command in enumerate(self.set(count))
        ]

    def _set(self, number: int) -> Command:
        return self._command(number, "set", {"config": config(self._serial(number), self.config_bytes)})

    def _command(self, number: int, name: str, params: dict[str, object]) -> Command:
        jti = f"bench-{self._batches}-{number}"
        params = {"service": service(number % self._services), **params}
        payload = sign_command(self._token, name, params, jti=jti, lifetime_s=_LIFETIME_S, topics=self._topics)
        packet = publish_packet(number, self._topics.command(name), payload)
        return Command(packet, self._topics.reply(self._token.name, jti).encode(), b'"ok":true')

    def _serial(self, number: int) -> str:
        return f"{self._batches:06}-{number:08}"


def service(number: int) -> str:
    """The name of a service."""
    return f"bench-{number:03}"


def config(serial: str, size: int) -> dict[str, object]:
    """A config of so many bytes of JSON in seven keys, of which ``serial`` is never the same twice."""
    made: dict[str, object] = {
        "model": "base.en",
        "language": "en",
        "threads": 4,
        "thresholds": {"energy": 0.25, "silence_s": 1.5},
        "phrases": ["turn the light on"],
        "note": "",
        "serial": serial,
    }
    return {**made, "note": "x" * (size - len(strictjson.dumps(made)))}
