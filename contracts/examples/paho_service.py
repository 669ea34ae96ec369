"""A service on plain paho-mqtt: callbacks, MQTT 5, ``loop_forever``. An example to read and to take over.

    paho_service.py HOST:PORT TOKEN.jwk SERVICE STATE.json [--patch JSON] [--instance NAME] [--prefix PREFIX]
    paho_service.py 127.0.0.1:1883 .setpoint/admin.jwk fan /tmp/fan.json --patch '{"speed":3}'

follows its config as contracts/following.md says, with the ``Follower`` of follower.py beside it, and goes on from
STATE.json the next time, at once and without a broker too. It publishes which version it runs, or why it does not take
one (``config/applied/…``). With ``--patch`` it changes its own config (there must be one), by one command that is sent
again after each reconnect until a signed reply to it has come. A line of JSON is printed for each thing that happens.
Neither a lost broker nor a lost daemon ends it; SIGTERM and Ctrl-C do.

``use`` is the place for what a service does with its config.
"""

import argparse
import json
import secrets
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from follower import Json, is_signed, load, save, signature_of
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from setpoint_contracts import Token, Topics, sign_command, strictjson, verify_detached
from setpoint_contracts.applied import AppliedReport
from setpoint_contracts.signing import VerifyingKey
from setpoint_contracts.timestamps import rfc3339

LIFETIME_S = 3600  # for how long the daemon may carry the command out


def use(config: Json | None) -> None:
    """Act on a config; None: the service is deleted. Raises ``ValueError`` for one that it cannot run with."""
    speed = 0 if config is None else config.get("speed", 0)
    if not isinstance(speed, int):
        raise ValueError("speed is an integer")  # noqa: TRY004 - it is a value of the config
    _print(runs_with=config)


class Service:
    """One connection: follows a service, says what it runs, and sends one command at most."""

    def __init__(self, token: Token, service: str, state: Path, *, instance: str, topics: Topics) -> None:
        self._token, self._service, self._state, self._instance = token, service, state, instance
        self._topics, self._follower = topics, load(state, topics)
        self._reply_topic = topics.reply(token.name, f"{service}-{secrets.token_hex(8)}")
        self._command: tuple[str, str, str] | None = None
        self._mqtt = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        self._mqtt.reconnect_delay_set(1, 5)
        self._mqtt.on_connect = lambda *_: self._listen()
        self._mqtt.on_message = lambda _client, _userdata, message: self._take(message)

    def patch(self, patch: Json) -> None:
        """Have a patch of the config sent at the next connection, and at each one after it until it is answered."""
        jti, params = secrets.token_hex(16), {"service": self._service, "patch": patch}
        payload = sign_command(
            self._token,
            "patch",
            params,
            jti=jti,
            reply_to=self._reply_topic,
            lifetime_s=LIFETIME_S,
            topics=self._topics,
        )
        self._command = jti, self._topics.command("patch"), payload

    def run(self, host: str, port: int) -> None:
        """Run with what is held, connect, and follow for good; what ends it (``SystemExit``) says goodbye first."""
        self._apply()
        self._mqtt.connect_async(host, port, keepalive=15)
        try:
            self._mqtt.loop_forever(retry_first_connection=True)
        finally:
            self._mqtt.disconnect()

    def _listen(self) -> None:
        """After every connect: subscribe, then ask. What is retained comes again, and is judged again."""
        self._mqtt.subscribe([(self._topics.keys, 1), (self._reply_topic, 1)])
        if self._follower.pinned:
            self._follow_and_ask()

    def _follow_and_ask(self) -> None:
        """Begin what needs a key to check the answers with."""
        self._mqtt.subscribe(self._topics.updated(self._service), 1)
        if self._command is not None:
            _, topic, payload = self._command
            self._mqtt.publish(topic, payload, qos=1)

    def _take(self, message: MQTTMessage) -> None:
        payload, jws = bytes(message.payload), signature_of(message)
        if message.topic == self._reply_topic:
            self._take_reply(payload, jws)
            return
        outcome = self._follower.take(message.topic, payload, jws)
        _print(topic=message.topic, outcome=outcome)
        if outcome in {"pinned", "taken"}:
            save(self._state, self._follower)  # before anything is done with it
        if outcome == "pinned":
            self._follow_and_ask()
        if outcome == "taken":
            self._apply()

    def _take_reply(self, payload: bytes, jws: str | None) -> None:
        if jws is None or not self._is_the_daemons(payload, jws):
            return
        reply = strictjson.loads(payload)
        if self._command is not None and reply["id"] == self._command[0]:
            _print(reply=reply)
            if not reply.get("error", {}).get("retryable"):  # else the same bytes go out again at the next connect
                self._command = None

    def _is_the_daemons(self, payload: bytes, jws: str) -> bool:
        """Whether it signed the reply: with the token's secret, or with its own key for an Ed25519 token."""
        if self._token.alg == "HS256":
            key = VerifyingKey("HS256", self._token.signing_key())
            return verify_detached(payload, self._reply_topic, jws, self._token.kid, key)
        return any(is_signed(jwk, self._reply_topic, payload, jws) for jwk in self._follower.pinned)

    def _apply(self) -> None:
        document = self._follower.holds.get(self._service)
        if document is None:
            return
        try:
            use(document.get("config"))
        except ValueError as error:
            self._report(document, "rejected", str(error)[:500])
        else:
            self._report(document, "applied")

    def _report(self, document: Json, status: str, error: str | None = None) -> None:
        """Say what it runs, retained. paho keeps it until there is a connection, and sends it then."""
        said = {"service": self._service, "instance": self._instance, "status": status, "error": error}
        numbers = {name: document[name] for name in ("version", "revision")}
        report = AppliedReport.model_validate({**said, **numbers, "at": rfc3339(time.time())})
        payload = report.model_dump_json(exclude_none=True)
        self._mqtt.publish(self._topics.applied(self._service, self._instance), payload, qos=1, retain=True)


def _print(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    """Read the command line, and run until it is ended."""
    parser = argparse.ArgumentParser(description="A service on plain paho-mqtt.")
    for name in ("address", "token", "service", "state"):
        parser.add_argument(name)
    parser.add_argument("--patch", type=json.loads)
    parser.add_argument("--instance", default=socket.gethostname())
    parser.add_argument("--prefix", default="")
    given = parser.parse_args()
    host, _, port = given.address.rpartition(":")
    if not host or not port.isdecimal():
        parser.error("the address is HOST:PORT")
    state, topics = Path(given.state), Topics(given.prefix)
    service = Service(Token.load(given.token), given.service, state, instance=given.instance, topics=topics)
    if given.patch is not None:
        service.patch(given.patch)
    service.run(host, int(port))


if __name__ == "__main__":
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: sys.exit())
    main()
