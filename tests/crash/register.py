"""What one service is to its callers: a register with versions and compare-and-set (wire sections 5 and 6).

Written from the wire and not from the daemon's code, which it is there to judge.
"""

from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True)
class State:
    """The register at one moment; version 0 never was, ``config`` None is absent or deleted."""

    version: int
    config: Config | None

    def admits(self, expected: int | None) -> bool:
        """Whether a write that expects this version may happen; 0 stands for absent, however it came to that."""
        return expected in {None, self.version} or (expected == 0 and self.config is None)


@dataclass(frozen=True)
class Outcome:
    """What a command must answer, and the register after it."""

    code: str
    after: State
    changed: bool = False


def run(command: str, params: dict[str, Any], before: State) -> Outcome:
    """Carry out a `get` of the newest version, a `set`, a `patch` or a `delete`."""
    if command == "get":
        return Outcome("not_found" if before.config is None else "ok", before)
    if not before.admits(params.get("expected_version")):
        return Outcome("version_conflict", before)
    if command == "set":
        return _write(before, params["config"])
    if before.config is None:
        return Outcome("not_found", before)
    return _write(before, merge(before.config, params["patch"]) if command == "patch" else None)


def merge(target: Any, patch: Any) -> Any:
    """Apply a JSON Merge Patch (RFC 7396 section 2)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        merged[name] = merge(merged.get(name), value)
        if value is None:
            del merged[name]
    return merged


def _write(before: State, config: Config | None) -> Outcome:
    if config is not None and config == before.config:
        return Outcome("ok", before)
    return Outcome("ok", State(before.version + 1, config), changed=True)
