"""The floor: answers every message below ``ECHO`` with the same bytes below ``ECHOED``, and does nothing else.

Started by run.py as a process of its own, with the broker's port on 127.0.0.1 as its only argument. It is what the
least a daemon in Python can be: paho's callbacks, QoS 1 both ways, no JSON, no signature, no store. It prints a line
once it is subscribed, and ends with its connection.
"""

import socket
import sys
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

ECHO = "bench/echo/"
ECHOED = "bench/echoed/"
# paho's own limit of 20 would make it wait for PUBACKs; the broker's, in mosquitto.conf, is the one that counts.
_MAX_INFLIGHT = 1000


def main(port: int) -> None:
    """Echo until the connection ends."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.max_inflight_messages_set(_MAX_INFLIGHT)
    client.on_socket_open = _no_delay
    client.on_connect = _subscribe
    client.on_subscribe = lambda *_: print("subscribed", flush=True)
    client.on_message = _echo
    client.connect("127.0.0.1", port)
    while client.loop() is MQTTErrorCode.MQTT_ERR_SUCCESS:
        pass


def _no_delay(_client: Client, _data: object, connection: Any) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _subscribe(client: Client, *_: object) -> None:
    client.subscribe(ECHO + "#", qos=1)


def _echo(client: Client, _data: object, message: MQTTMessage) -> None:
    client.publish(ECHOED + message.topic.removeprefix(ECHO), message.payload, qos=1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
