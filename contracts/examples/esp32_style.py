"""Call Setpoint as a small device does: MQTT 3.1.1, HS256, and nothing that a C firmware does not have.

    esp32_style.py HOST:PORT TOKEN.jwk FLASH.json SERVICE PATCH [PREFIX]
    esp32_style.py 127.0.0.1:1883 .setpoint/admin.jwk /tmp/flash.json blinds '{"position":40}'

sends one ``patch`` of the service's config (there must be one), prints the reply, waits for the config that it led to
and prints that too. It needs paho-mqtt for the connection; all that is signed is SHA-256 and base64. FLASH.json is the
memory that outlives a reset: the signed bytes are there before they are sent, and are sent again, as they are, until
the reply has come: after 3 s without one, after a lost connection, and at the next start, for which PATCH then does not
count. That is one effect.

What such a device can know: that the reply belongs to its command, by the ``jti`` that it made up and that is a part of
the reply's topic; and that a document is newer than the one that it had, by (``epoch``, ``revision``).
What it cannot: MQTT 3.1.1 carries no user properties, and so no ``jws``. It believes the broker, and everybody whom the
broker lets publish on ``config/reply/`` and ``config/updated/`` (mosquitto/README.md restricts that to the daemon). It
must not set its clock by ``server_time`` of a reply either: time comes from NTP. To check signatures, use MQTT 5.
"""

import hashlib
import hmac
import json
import os
import secrets
import sys
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

Json = dict[str, Any]

RESEND_S, RECONNECT_S = 3.0, 0.5
LIFETIME_S = 3600  # for how long the command may be carried out: as long as a reply may be waited for, at most a day
NTP_HAS_SET_IT = 1_700_000_000  # a clock that says less was not set since the reset


def encode(data: bytes) -> str:
    """Write bytes as base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(token: Json, topic: str, params: Json, now: int) -> tuple[str, str]:
    """Sign a command for a topic: its ``jti`` and the compact JWS. ``now``, POSIX seconds, is its ``iat`` for good."""
    jti = secrets.token_hex(16)
    claims = {"jti": jti, "aud": topic, "iat": now, "exp": now + LIFETIME_S, "params": params}
    header = {"alg": "HS256", "kid": token["kid"]}
    said = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"
    key = urlsafe_b64decode(token["k"] + "=")
    return jti, f"{said}.{encode(hmac.digest(key, said.encode(), hashlib.sha256))}"


def ntp_clock() -> int:
    """Return POSIX seconds, once they are known; on a device, what SNTP has set."""
    while (now := int(time.time())) < NTP_HAS_SET_IT:
        time.sleep(1)
    return now


class Flash:
    """A few values that outlive a reset: ``command`` under way, and ``document``, the newest one seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: Json = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def get(self, name: str) -> Json | None:
        """Read a value; None when there is none."""
        value: Json | None = self._values.get(name)
        return value

    def put(self, name: str, value: Json | None) -> None:
        """Write a value; a power cut leaves the old one or the new one."""
        self._values[name] = value
        new = self._path.with_name(self._path.name + ".new")
        with new.open("w", encoding="utf-8") as file:
            json.dump(self._values, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)


class Device:
    """One connection, one command under way, one service whose config it follows."""

    def __init__(self, token: Json, flash: Flash, service: str, prefix: str = "") -> None:
        self._flash, self._service = flash, service
        self._topic, self._updated = f"{prefix}config/cmd/patch", f"{prefix}config/updated/{service}"
        self._replies = f"{prefix}config/reply/{token['name']}/"
        self._sent_at = 0.0
        self._reply: Json | None = None
        self._mqtt = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv311)
        self._mqtt.on_connect = lambda *_: self._subscribe()
        self._mqtt.on_subscribe = lambda *_: self._send()  # first listen, then ask
        self._mqtt.on_message = lambda _client, _userdata, message: self._take(message)

    def command(self, token: Json, patch: Json) -> None:
        """Sign a patch and keep its bytes, unless one of before the reset is still without an answer."""
        if self._flash.get("command") is None:
            params = {"service": self._service, "patch": patch}
            jti, payload = sign(token, self._topic, params, ntp_clock())
            self._flash.put("command", {"jti": jti, "payload": payload})

    def run(self, host: str, port: int) -> Json:
        """Loop until the reply and the config of its revision have come; returns the reply."""
        while (reply := self._outcome()) is None:
            if not self._mqtt.is_connected() and not self._connect(host, port):
                time.sleep(RECONNECT_S)
            elif self._loop() and time.monotonic() - self._sent_at > RESEND_S:
                self._send()
        self._mqtt.disconnect()
        return reply

    def _connect(self, host: str, port: int) -> bool:
        try:
            self._mqtt.connect(host, port, keepalive=15)
        except OSError:
            return False
        while not self._mqtt.is_connected():
            if not self._loop():
                return False
        return True

    def _loop(self) -> bool:
        """Read and write what there is, for 0.1 s at most; False when the connection is lost."""
        return self._mqtt.loop(timeout=0.1) is MQTTErrorCode.MQTT_ERR_SUCCESS

    def _subscribe(self) -> None:
        wanted = [(self._updated, 1)]
        if (command := self._flash.get("command")) is not None:
            wanted.append((self._replies + command["jti"], 1))  # where the daemon answers when it is told nothing
        self._mqtt.subscribe(wanted)

    def _send(self) -> None:
        self._sent_at = time.monotonic()
        if (command := self._flash.get("command")) is not None:
            self._mqtt.publish(self._topic, command["payload"], qos=0)  # it is repeated until there is a reply

    def _take(self, message: MQTTMessage) -> None:
        try:
            said = json.loads(message.payload)
            if message.topic == self._updated:
                self._take_document(said)
            elif said["id"] == (self._flash.get("command") or {}).get("jti"):
                self._take_reply(said)
        except (ValueError, KeyError, TypeError):
            pass  # an empty payload says nothing; anything else is none of the daemon's

    def _take_document(self, document: Json) -> None:
        held = self._flash.get("document")
        if held is None or _order(document) > _order(held):
            self._flash.put("document", document)
            print(json.dumps({"document": document}), flush=True)

    def _take_reply(self, reply: Json) -> None:
        if not reply["ok"] and reply["error"]["retryable"]:
            return  # the same bytes again, after the usual pause
        self._reply = reply
        self._flash.put("command", None)
        print(json.dumps({"reply": reply}), flush=True)

    def _outcome(self) -> Json | None:
        """Return the reply, once what it led to is here too; None before."""
        if self._reply is None or not self._reply["ok"]:
            return self._reply
        held = self._flash.get("document")
        return self._reply if held is not None and _order(held) >= _order(self._reply["result"]) else None


def _order(document: Json) -> tuple[int, int]:
    return int(document["epoch"]), int(document["revision"])  # both need 64 bits


def main(address: str, token_path: str, flash_path: str, service: str, patch: str, prefix: str = "") -> int:
    """Send one patch; the exit code is 0 when it was carried out."""
    token = json.loads(Path(token_path).read_text("utf-8"))
    host, _, port = address.rpartition(":")
    device = Device(token, Flash(Path(flash_path)), service, prefix)
    device.command(token, json.loads(patch))
    return 0 if device.run(host, int(port))["ok"] else 1


if __name__ == "__main__":
    if len(sys.argv) not in {6, 7}:
        sys.exit("usage: esp32_style.py HOST:PORT TOKEN.jwk FLASH SERVICE PATCH [PREFIX]")
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
