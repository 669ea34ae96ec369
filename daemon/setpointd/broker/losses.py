"""The ends of a connection, in words that say what to do."""

import os

from setpointd.errors import BrokerLostError, SessionTakenOverError, SetpointdError

ONLY_MQTT_3 = "the broker does not speak MQTT 5, which Setpoint needs: use Mosquitto 1.6 or newer"
NO_RETAIN = "the broker keeps no retained messages, which Setpoint needs: set retain_available true in mosquitto.conf"
NO_QOS_1 = "the broker takes QoS 0 only, and Setpoint needs QoS 1: set max_qos to 1 or 2 in mosquitto.conf"
CLOSED = "the broker closed the connection"
LOST = "the connection was lost"

_NORMAL_DISCONNECTION, _SESSION_TAKEN_OVER = 0x00, 0x8E  # MQTT 5, section 3.14.2.1


def disconnected(code: int, name: str) -> SetpointdError:
    """Return the end by a DISCONNECT of the broker with that reason code, whose name is in capitals."""
    if code == _SESSION_TAKEN_OVER:
        return SessionTakenOverError(
            "another client took over the session; is a second daemon running with this client id?"
        )
    return BrokerLostError(CLOSED if code == _NORMAL_DISCONNECTION else f"{CLOSED}: {words(name)}")


def broken(error: BaseException | None) -> BrokerLostError:
    """Return the end without a word of the broker; the system's words, or those of TLS, say more if there are any."""
    if not isinstance(error, OSError):
        return BrokerLostError(CLOSED)
    if (verification := getattr(error, "verify_message", None)) is not None:  # ssl.SSLCertVerificationError
        return BrokerLostError(f"the broker's certificate is not to be trusted: {verification}")
    plain = type(error).__module__ == "builtins" and error.errno  # asyncio adds addresses to its text
    return BrokerLostError(os.strerror(error.errno) if plain and error.errno else str(error.strerror or error))


def unanswered(error: BaseException | None) -> BrokerLostError:
    """Return the end before CONNACK."""
    return broken(error) if error else BrokerLostError(f"{CLOSED} without a word: does it speak MQTT 5?")


def refused_subscriptions(reason: str) -> BrokerLostError:
    """Return the end for a SUBACK that refuses."""
    return BrokerLostError(f"the broker refuses the daemon's subscriptions ({reason}); see the acl in mosquitto/")


def words(name: str) -> str:
    """Put the name of a reason code into words."""
    return name.replace("_", " ").lower()


def huge(size: int) -> BrokerLostError:
    """Return the end for a packet of the broker's own that is larger than any should be."""
    return BrokerLostError(f"the broker sent a packet of {size} bytes")
