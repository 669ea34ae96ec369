"""One module per noun; importing this package registers every handler."""

from setpointd.handlers import access, config, system

__all__ = ["access", "config", "system"]
