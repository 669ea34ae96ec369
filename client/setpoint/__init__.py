"""Setpoint's client library: what a service imports to read its configuration and follow its updates."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("setpoint")
