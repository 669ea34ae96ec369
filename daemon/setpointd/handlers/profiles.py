"""Commands on profiles (wire section 6).

A profile is there for whoever sees one of its services, as if it held no others; changing it, or loading it, takes the
right for all of them.
"""

from typing import Any

from setpoint_contracts import Code, Permission
from setpoint_contracts.audit import Action
from setpoint_contracts.profiles import MAX_PROFILES, ProfileDelete, ProfileGet, ProfileList, ProfileLoad, ProfileSave
from setpointd.call import Call
from setpointd.errors import BadRequest, Rejected
from setpointd.handlers.writing import Cause, become_all, living
from setpointd.render import Result
from setpointd.store import Snapshot, Tx


def save(tx: Tx, call: Call, command: ProfileSave) -> Result:
    """Keep what services hold now under a name."""
    versions, name = _chosen(tx, command), command.profile
    call.needs_all(Permission.WRITE, versions.keys() | tx.profiles.versions(name).keys())
    if not versions:
        raise Rejected(Code.NOT_FOUND, "there is no service to save")
    current = tx.profiles.summary(name)
    if current is not None and not command.overwrite:
        text = f'there is a profile "{name}" already; choose another name, or say overwrite'
        raise Rejected(Code.ALREADY_EXISTS, text, current=current)
    if current is None and (profiles := tx.profiles.count()) >= MAX_PROFILES:
        text = f"would be one more than the {MAX_PROFILES} profiles that are kept; delete one, or overwrite it"
        raise BadRequest("name", text, "too_many_profiles", profiles=profiles, max_profiles=MAX_PROFILES)
    tx.profiles.save(name, command.description, versions)
    return Result(**(tx.profiles.summary(name) or {}))


def _chosen(tx: Tx, command: ProfileSave) -> dict[str, int]:
    if command.services is None:
        return tx.config.versions()
    return {service: living(service, tx.config.current(service)).version for service in dict.fromkeys(command.services)}


def list_profiles(snapshot: Snapshot, call: Call, _command: ProfileList) -> Result:
    """List the profiles that hold something which the caller sees."""
    profiles = snapshot.profiles
    seen = None if call.who.scope is None else filter(call.who.sees, profiles.services())
    return Result(profiles=profiles.all(seen))


def get(snapshot: Snapshot, call: Call, command: ProfileGet) -> Result:
    """Read a profile with the configs that the caller sees."""
    summary, versions = found(snapshot, call, command.profile)
    held = {
        service: snapshot.profiles.content(service, version)
        for service, version in versions.items()
        if call.who.sees(service)
    }
    return Result(**{**summary, "services": len(held)}, snapshot=held)


def delete(tx: Tx, call: Call, command: ProfileDelete) -> Result:
    """Delete a profile."""
    summary, versions = found(tx, call, command.profile)
    call.needs_all(Permission.DELETE, versions)
    tx.profiles.delete(command.profile)
    return Result(**summary)


def load(tx: Tx, call: Call, command: ProfileLoad) -> Result:
    """Bring services to what a profile holds; exactly: and delete all others."""
    _, versions = found(tx, call, command.profile)
    others = tx.config.versions().keys() - versions.keys() if command.exact else ()
    call.needs_all(Permission.WRITE, versions)
    call.needs_all(Permission.DELETE, others)
    held = {service: tx.profiles.content(service, version) for service, version in versions.items()}
    cause = Cause("load", command.reason, Action.LOAD_PROFILE, {"profile": command.profile})
    return become_all(tx, call, {**held, **dict.fromkeys(others)}, cause)


def found(snapshot: Snapshot, call: Call, name: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return a profile's summary, and all that it holds."""
    summary, versions = snapshot.profiles.summary(name), snapshot.profiles.versions(name)
    if summary is None or not any(map(call.who.sees, versions)):
        raise Rejected(Code.NOT_FOUND, f'there is no profile "{name}"')
    return summary, versions
