"""One module per noun; importing this package registers every handler."""

from setpointd.handlers import access, config, system
from setpointd.registry import HANDLERS

__all__ = ["HANDLERS", "access", "config", "system"]
