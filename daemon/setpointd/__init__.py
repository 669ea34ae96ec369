"""Setpoint's daemon: signed commands in, durable versions and retained updates out."""

from importlib.metadata import version

__version__ = version("setpoint")
