"""Every command of the wire (section 6) as a method. The client over MQTT and the one in memory share them.

Results are the models of ``setpoint_contracts``; members that a later daemon adds are passed over. Whatever is refused
is raised, one class per code (``setpoint.errors``). ``reason`` says why something is changed and stands in history and
audit; ``dry_run`` gives the result that would be, and writes nothing; ``expected_version`` writes only at that version
(0: only if the service does not exist). ``timeout`` is in seconds; where a command takes none, or it is left out, it is
the client's own.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from setpoint.errors import SetpointError
from setpoint.params import ConfigLike, Names, Params, Point, plain, point
from setpoint_contracts import access, audit_log, profiles, retention
from setpoint_contracts import applied as reports
from setpoint_contracts import config as configs
from setpoint_contracts import config_schema as schemas
from setpoint_contracts import history as past
from setpoint_contracts import search as finds
from setpoint_contracts import system as daemon

R = TypeVar("R", bound=BaseModel)


class Commands(ABC):
    """The commands, over one way to have a command answered."""

    @abstractmethod
    async def call(self, command: str, params: Params | None = None, *, timeout: float | None = None) -> dict[str, Any]:
        """Send any command by its name; the ``result`` of its reply. Raises the ``SetpointError`` of its code."""

    async def _ask(self, kind: type[R], command: str, timeout: float | None = None, **params: Any) -> R:
        given = {name.rstrip("_"): value for name, value in params.items() if value is not None}
        result = await self.call(command, given, timeout=timeout)
        try:
            return kind.model_validate(result, extra="ignore")
        except ValidationError:
            text = f"the answer to {command} is not as this version of the library reads it; call() gives it as it came"
            raise SetpointError(text, code="unreadable") from None

    # The config of a service

    async def get(
        self,
        service: str,
        *,
        version: int | None = None,
        revision: int | None = None,
        time: str | None = None,
        key: str | None = None,
        timeout: float | None = None,
    ) -> configs.GetResult:
        """Read a config document: now, or at one of version, revision and time (RFC 3339); with ``key`` also ``value``.

        Raises ``NotFound``; of a deleted service its ``current`` is the tombstone.
        """
        return await self._ask(
            configs.GetResult, "get", timeout, service=service, version=version, revision=revision, time=time, key=key
        )

    async def list(self, prefix: str = "", *, limit: int = 100, after: str | None = None) -> configs.ListResult:
        """List services by name, a page of at most 1,000; ``next`` is the ``after`` of the page behind it."""
        return await self._ask(configs.ListResult, "list", prefix=prefix, limit=limit, after=after)

    async def services(self, prefix: str = "") -> AsyncIterator[configs.ListedService]:
        """Go through all services by name, page by page."""
        after: str | None = None
        while True:
            page = await self.list(prefix, limit=1000, after=after)
            for service in page.services:
                yield service
            if (after := page.next) is None:
                return

    async def search(self, query: str, *, service: str | None = None, limit: int = 100) -> finds.SearchResult:
        """Find keys by a text in their name or value, in any case."""
        return await self._ask(finds.SearchResult, "search", query=query, service=service, limit=limit)

    async def set(
        self,
        service: str,
        config: ConfigLike,
        *,
        expected_version: int | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> configs.WriteResult:
        """Replace a whole config; keys that are not given are gone.

        Raises ``VersionConflict``, ``SchemaInvalid``, ``TooLarge``.
        """
        return await self._ask(
            configs.WriteResult,
            "set",
            timeout,
            service=service,
            config=plain(config),
            expected_version=expected_version,
            reason=reason,
            dry_run=dry_run or None,
        )

    async def patch(
        self,
        service: str,
        patch: ConfigLike,
        *,
        expected_version: int | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> configs.WriteResult:
        """Change parts of a config (RFC 7396): None removes a key, other keys stay.

        Raises as ``set``, and ``NotFound``.
        """
        return await self._ask(
            configs.WriteResult,
            "patch",
            timeout,
            service=service,
            patch=plain(patch),
            expected_version=expected_version,
            reason=reason,
            dry_run=dry_run or None,
        )

    async def delete(
        self,
        service: str,
        *,
        expected_version: int | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> configs.DeleteResult:
        """Delete a service; its history stays. Raises ``NotFound``, ``VersionConflict``."""
        return await self._ask(
            configs.DeleteResult,
            "delete",
            timeout,
            service=service,
            expected_version=expected_version,
            reason=reason,
            dry_run=dry_run or None,
        )

    async def apply(
        self,
        changes: Sequence[Params],
        *,
        reason: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> configs.ApplyResult:
        """Change up to 128 services at once, all of it or nothing, in one revision.

        A change is ``{"op": "set"|"patch"|"delete", "service": …, "config"|"patch": …, "expected_version": …}``.
        What is raised says in ``index`` which change it was.
        """
        return await self._ask(
            configs.ApplyResult,
            "apply",
            timeout,
            changes=[dict(change) for change in changes],
            reason=reason,
            dry_run=dry_run or None,
        )

    # What was

    async def diff(self, service: str, from_: Point, to: Point) -> past.DiffResult:
        """Compare what a service was at two points (see ``Point``). Raises ``NotFound``."""
        return await self._ask(past.DiffResult, "diff", service=service, from_=point(from_), to=point(to))

    async def history(
        self,
        service: str | None = None,
        *,
        key: str | None = None,
        user: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> past.HistoryQueryResult:
        """List changes of keys, newest first; ``next`` is the ``before`` of the page behind it."""
        return await self._ask(
            past.HistoryQueryResult,
            "history/query",
            service=service,
            key=key,
            user=user,
            since=since,
            until=until,
            limit=limit,
            before=before,
        )

    async def versions(
        self, service: str, *, limit: int = 100, before: int | None = None
    ) -> past.HistoryVersionsResult:
        """List the versions of a service, newest first. Raises ``NotFound``."""
        return await self._ask(
            past.HistoryVersionsResult, "history/versions", service=service, limit=limit, before=before
        )

    async def restore(
        self,
        services: Names | None = None,
        *,
        version: int | None = None,
        revision: int | None = None,
        time: str | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> configs.ChangedServices:
        """Make services (None: all) what they were at one of version (one service), revision and time, all or none."""
        return await self._ask(
            configs.ChangedServices,
            "history/restore",
            timeout,
            services=None if services is None else [*services],
            version=version,
            revision=revision,
            time=time,
            reason=reason,
            dry_run=dry_run or None,
        )

    async def prune(
        self, *, keep_days: int | None = None, keep_versions: int | None = None
    ) -> retention.HistoryPruneResult:
        """Remove old versions and their history; what either argument keeps stays, and the newest versions do."""
        return await self._ask(
            retention.HistoryPruneResult, "history/prune", keep_days=keep_days, keep_versions=keep_versions
        )

    # Profiles

    async def profile_save(
        self,
        name: str,
        *,
        description: str | None = None,
        services: Names | None = None,
        overwrite: bool = False,
    ) -> profiles.ProfileResult:
        """Keep the configs of services (None: all) as they are now, under a name. Raises ``AlreadyExists``."""
        return await self._ask(
            profiles.ProfileResult,
            "profile/save",
            name=name,
            description=description,
            services=None if services is None else [*services],
            overwrite=overwrite or None,
        )

    async def profile_list(self) -> profiles.ProfileListResult:
        """List profiles, without what they hold."""
        return await self._ask(profiles.ProfileListResult, "profile/list")

    async def profile_get(self, name: str) -> profiles.ProfileGetResult:
        """Read a profile with its ``snapshot``. Raises ``NotFound``."""
        return await self._ask(profiles.ProfileGetResult, "profile/get", name=name)

    async def profile_delete(self, name: str) -> profiles.ProfileResult:
        """Delete a profile. Raises ``NotFound``."""
        return await self._ask(profiles.ProfileResult, "profile/delete", name=name)

    async def profile_load(
        self,
        name: str,
        *,
        exact: bool = False,
        reason: str | None = None,
        dry_run: bool = False,
        timeout: float | None = None,
    ) -> configs.ChangedServices:
        """Make configs what a profile holds, all or none; with ``exact`` services that it lacks are deleted."""
        return await self._ask(
            configs.ChangedServices,
            "profile/load",
            timeout,
            name=name,
            exact=exact or None,
            reason=reason,
            dry_run=dry_run or None,
        )

    # Schemas

    async def schema_set(
        self, service: str, schema: Params, *, force: bool = False, reason: str | None = None
    ) -> schemas.SchemaSetResult:
        """Have every write of a service checked by a JSON Schema (2020-12) from now on."""
        return await self._ask(
            schemas.SchemaSetResult,
            "schema/set",
            service=service,
            schema=dict(schema),
            force=force or None,
            reason=reason,
        )

    async def schema_get(self, service: str) -> schemas.SchemaGetResult:
        """Read the schema of a service. Raises ``NotFound``."""
        return await self._ask(schemas.SchemaGetResult, "schema/get", service=service)

    async def schema_list(self, *, limit: int = 100, after: str | None = None) -> schemas.SchemaListResult:
        """List the services that have a schema, a page of at most 1,000 as ``list``."""
        return await self._ask(schemas.SchemaListResult, "schema/list", limit=limit, after=after)

    async def schema_delete(self, service: str, *, reason: str | None = None) -> schemas.SchemaDeleteResult:
        """Remove the schema of a service. Raises ``NotFound``."""
        return await self._ask(schemas.SchemaDeleteResult, "schema/delete", service=service, reason=reason)

    # Tokens and the daemon

    async def token_create(
        self,
        name: str,
        role: str,
        *,
        services: Names | None = None,
        ttl_s: int | None = None,
        alg: str | None = None,
        public_jwk: Params | None = None,
    ) -> access.NewToken:
        """Make a token for a principal. ``Client.open_token`` opens what comes back of HS256."""
        return await self._ask(
            access.NewToken,
            "token/create",
            name=name,
            role=role,
            services=None if services is None else [*services],
            ttl_s=ttl_s,
            alg=alg,
            public_jwk=public_jwk,
        )

    async def token_list(self) -> access.TokenListResult:
        """List tokens, without their keys."""
        return await self._ask(access.TokenListResult, "token/list")

    async def token_revoke(self, kid: str) -> access.TokenInfo:
        """Revoke a token for good. Raises ``NotFound``."""
        return await self._ask(access.TokenInfo, "token/revoke", kid=kid)

    async def token_rotate(
        self, kid: str, *, grace_s: int | None = None, public_jwk: Params | None = None
    ) -> access.SuccessorToken:
        """Put a new token in the place of one, which goes on for ``grace_s`` (300) seconds."""
        return await self._ask(access.SuccessorToken, "token/rotate", kid=kid, grace_s=grace_s, public_jwk=public_jwk)

    async def audit(
        self,
        *,
        action: str | None = None,
        user: str | None = None,
        service: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> audit_log.AuditQueryResult:
        """Read the audit log, newest first; go on with ``next`` until it is None."""
        return await self._ask(
            audit_log.AuditQueryResult,
            "audit/query",
            action=action,
            user=user,
            service=service,
            since=since,
            until=until,
            limit=limit,
            before=before,
        )

    async def applied(self, service: str | None = None, *, timeout: float | None = None) -> reports.AppliedResult:
        """Say which instance runs what, as far as they report it."""
        return await self._ask(reports.AppliedResult, "applied", timeout, service=service)

    async def info(self, *, timeout: float | None = None) -> daemon.InfoResult:
        """Say what the daemon is, its limits, and who the caller is to it."""
        return await self._ask(daemon.InfoResult, "info", timeout)

    async def status(self, *, timeout: float | None = None) -> daemon.StatusResult:
        """Say how the daemon does."""
        return await self._ask(daemon.StatusResult, "status", timeout)

    async def epoch_advance(self, *, expected_epoch: int | None = None) -> daemon.EpochAdvanceResult:
        """Make this store the truth (wire section 7): it ends a read-only state."""
        return await self._ask(daemon.EpochAdvanceResult, "epoch/advance", expected_epoch=expected_epoch)
