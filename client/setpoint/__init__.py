"""Setpoint's client library. So far only its version: services use ``setpoint_contracts`` with any MQTT client."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("setpoint")
