"""Which function runs which command.

A handler is a plain function ``(tx, call, command) -> result``. It runs inside one transaction (a mutation) or one
snapshot (a read), and does not publish, log, commit, wait or look at a clock. It refuses by raising ``Rejected``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from setpoint_contracts import COMMANDS, Command
from setpointd.auth import Principal
from setpointd.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler may know beside its command: who asks, when, and of whom."""

    who: Principal
    at: str
    daemon: Runtime


Result = dict[str, Any]
Handler = Callable[[Any, Call, Any], Result]
H = TypeVar("H", bound=Handler)

HANDLERS: dict[str, Handler] = {}


def handles(command: type[Command]) -> Callable[[H], H]:
    """Register the handler of a command."""

    def register(handler: H) -> H:
        if command.name in HANDLERS:
            msg = f"{command.name} has two handlers"
            raise RuntimeError(msg)
        HANDLERS[command.name] = handler
        return handler

    return register


def check_complete() -> None:
    """Refuse to start when a command of the contracts has no handler, or the other way round."""
    if difference := COMMANDS.keys() ^ HANDLERS.keys():
        msg = f"contracts and handlers differ: {', '.join(sorted(difference))}"
        raise RuntimeError(msg)
