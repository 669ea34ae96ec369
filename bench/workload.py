"""What is sent: messages for the echo and signed commands, as packets made before the clock starts."""

from echo import ECHO, ECHOED
from load import Command, publish_packet

from setpoint_contracts import Token, Topics, sign_command, strictjson

# Commands go round among so many services, so that at 100 in flight each is for another one.
SERVICES = 100
_LIFETIME_S = 3600


class Commands:
    """Makes signed commands with one token; every batch has a tag of its own, for their ids."""

    def __init__(self, token: Token) -> None:
        self._token = token
        self._topics = Topics()
        self._batches = 0
        self.config_bytes = len(strictjson.dumps(self._config(0)))
        self.filters = (self._topics.reply(token.name, "#"), self._topics.all_updated, ECHOED + "#")

    def echo(self, count: int) -> list[Command]:
        """Messages for the echo: as long as a ``get``, so that the floor carries the same bytes."""
        payload = sign_command(self._token, "get", {"service": _service(0)})
        return [
            Command(publish_packet(number, f"{ECHO}{number}", payload), f"{ECHOED}{number}".encode())
            for number in range(count)
        ]

    def get(self, count: int) -> list[Command]:
        """Reads, done when their reply comes."""
        self._batches += 1
        return [self._command(number, "get", {}) for number in range(count)]

    def set(self, count: int) -> list[Command]:
        """Writes that each change one key, done when their reply comes."""
        self._batches += 1
        return [self._command(number, "set", {"config": self._config(number)}) for number in range(count)]

    def update(self, count: int) -> list[Command]:
        """The same writes, done when the update comes that they cause. One at a time: those of a service conflate."""
        return [
            Command(command.packet, self._topics.updated(_service(number)).encode(), self._serial(number).encode())
            for number, command in enumerate(self.set(count))
        ]

    def _command(self, number: int, name: str, params: dict[str, object]) -> Command:
        jti = f"bench-{self._batches}-{number}"
        params = {"service": _service(number), **params}
        payload = sign_command(self._token, name, params, jti=jti, lifetime_s=_LIFETIME_S)
        packet = publish_packet(number, self._topics.command(name), payload)
        return Command(packet, self._topics.reply(self._token.name, jti).encode(), b'"ok":true')

    def _config(self, number: int) -> dict[str, object]:
        """About 240 bytes of JSON in seven keys, of which ``serial`` is never the same twice."""
        return {
            "model": "base.en",
            "language": "en",
            "threads": 4,
            "thresholds": {"energy": 0.25, "silence_s": 1.5},
            "phrases": [
                "turn the light on in the living room",
                "what will the weather be like tomorrow morning",
                "stop the music, please",
            ],
            "serial": self._serial(number),
        }

    def _serial(self, number: int) -> str:
        return f"{self._batches:06}-{number:08}"


def _service(number: int) -> str:
    return f"bench-{number % SERVICES:03}"
