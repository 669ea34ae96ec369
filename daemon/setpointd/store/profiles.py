"""Profiles: ``profiles``, and the versions that each names, ``profile_services``.

A profile holds no config: the versions that it names are never changed, and stay as long as it does.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlite_utils import Database

from setpoint_contracts import strictjson
from setpoint_contracts.audit import Action
from setpointd.errors import UnreadableError
from setpointd.store.audit import AuditWrites
from setpointd.store.config import ConfigReads
from setpointd.store.identity import IdentityReads
from setpointd.store.known import Known
from setpointd.store.sql import Reading, Writing

_SUMMARIES = (
    "SELECT p.name, p.description, count(*) AS services, p.revision, p.created_at, p.created_by, p.updated_at,"
    " p.updated_by FROM profiles p JOIN profile_services s ON s.profile = p.name WHERE"
)


class ProfileReads(Reading):
    """Reads of profiles. A summary is a profile as the wire has it, without what it holds."""

    def __init__(self, db: Database, config: ConfigReads) -> None:
        super().__init__(db)
        self._config = config

    def all(self, among: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """The summaries of all profiles in the order of their names.

        With ``among``, as if there were no other services: what holds none of them is left out.
        """
        rows = self._all(
            f"{_SUMMARIES} :among IS NULL OR s.service IN (SELECT value FROM json_each(:among))"  # noqa: S608
            " GROUP BY p.name ORDER BY p.name",
            among=None if among is None else strictjson.dumps(list(among)),
        )
        return [dict(row) for row in rows]

    def summary(self, name: str) -> dict[str, Any] | None:
        """One profile; None when there is none of that name."""
        row = self._one(f"{_SUMMARIES} p.name = :name GROUP BY p.name", name=name)
        return None if row is None else dict(row)

    def count(self) -> int:
        """How many profiles there are."""
        return self._number("SELECT count(*) FROM profiles")

    def services(self) -> list[str]:
        """Every service that some profile holds."""
        return [row["service"] for row in self._all("SELECT DISTINCT service FROM profile_services")]

    def versions(self, name: str) -> dict[str, int]:
        """The services of a profile in the order of their names, each with its version; empty: there is no profile."""
        found = self._all(
            "SELECT service, version FROM profile_services WHERE profile = :name ORDER BY service", name=name
        )
        return dict(found.fetchall())

    def config(self, name: str, service: str) -> dict[str, Any] | None:
        """What a profile holds of a service; None when it lacks that."""
        row = self._one(
            "SELECT version FROM profile_services WHERE profile = :name AND service = :service",
            name=name,
            service=service,
        )
        return None if row is None else self.content(service, row["version"])

    def content(self, service: str, version: int) -> dict[str, Any]:
        """The config of a version that a profile names; raises ``UnreadableError``."""
        document = self._config.at_version(service, version)
        if document is None or document.config is None:  # never taken for a service that the profile lacks
            raise UnreadableError("a row of the store cannot be read: a profile names a version without a config")
        return document.config


class ProfileWrites(ProfileReads, Writing):
    """Writes of profiles. They are kept beside the configs: the revision does not move."""

    def __init__(
        self, db: Database, known: Known, config: ConfigReads, identity: IdentityReads, audit: AuditWrites
    ) -> None:
        super().__init__(db, config)
        self._known = known
        self._identity = identity
        self._audit = audit

    def save(self, name: str, description: str | None, versions: Mapping[str, int]) -> None:
        """Make a profile of these versions, at least one, or replace the one of that name whole."""
        replaced = self._do("DELETE FROM profile_services WHERE profile = :name", name=name)
        self._do(
            "INSERT INTO profiles (name, description, revision, created_at, created_by, updated_at, updated_by)"
            " VALUES (:name, :description, :revision, :at, :by, :at, :by)"
            " ON CONFLICT (name) DO UPDATE SET description = excluded.description, revision = excluded.revision,"
            " updated_at = excluded.updated_at, updated_by = excluded.updated_by",
            name=name,
            description=description,
            revision=self._identity.now().revision,
            at=self._known.stamp.at,
            by=self._known.stamp.by,
        )
        self._do_many(
            "INSERT INTO profile_services (profile, service, version) VALUES (:name, :service, :version)",
            [{"name": name, "service": service, "version": version} for service, version in versions.items()],
        )
        self._audit.record(Action.SAVE_PROFILE, profile=name, services=len(versions), overwritten=bool(replaced))

    def delete(self, name: str) -> None:
        """Delete a profile that there is."""
        services = self._do("DELETE FROM profile_services WHERE profile = :name", name=name)
        self._do("DELETE FROM profiles WHERE name = :name", name=name)
        self._audit.record(Action.DELETE_PROFILE, profile=name, services=services)
