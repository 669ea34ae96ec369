"""The values of secrets, put where they belong: into documents and profiles that were asked for with ``reveal``."""

import json
from typing import Any

from setpoint.cli.archive import redacted_in
from setpoint.cli.connection import Session, all_or_none, signer
from setpoint.cli.exits import Exit, Failed
from setpoint.cli.options import Options

Json = dict[str, Any]


class Secrets:
    """Opens what the daemon has sealed for the caller's own token; not asked to ``reveal``, leaves all as it is."""

    def __init__(self, options: Options, *, reveal: bool = True) -> None:
        self._key = signer(options)[2].signing_key() if reveal else None

    def put_into(self, document: Json) -> Json:
        """Return the config of a document, with the values of its secrets if they came with it."""
        from setpoint_contracts import open_sealed
        from setpoint_contracts.sealing import SECRETS_INFO

        config: Json = document["config"]
        sealed = document.get("secrets_jwe")
        if self._key is not None and sealed is not None:
            for pointer, value in json.loads(open_sealed(self._key, SECRETS_INFO, sealed)).items():
                _put(config, pointer, value)
        return config

    async def of_service(self, session: Session, service: str) -> Json:
        """Ask for the config of a service, as it is now."""
        return self.put_into(await session.call("get", {"service": service, "reveal": self._key is not None or None}))

    async def of_profile(self, session: Session, profile: Json) -> Json:
        """Return what a profile holds; a secret in it is in the document of the revision at which it was saved."""
        snapshot: Json = dict(profile["snapshot"])
        if self._key is None:
            return snapshot
        for service in [service for service, config in snapshot.items() if redacted_in(config)]:
            params = {"service": service, "revision": profile["revision"], "reveal": True}
            document = await all_or_none(session.call("get", params), "not_found")
            if document is None or document["config"] != snapshot[service]:
                raise Failed(
                    f"the secrets of {service} in the profile {profile['name']} are not in the history any more",
                    "delete or save that profile anew, or export without --reveal",
                    Exit.NOT_FOUND,
                )
            snapshot[service] = self.put_into(document)
        return snapshot


def _put(config: Json, pointer: str, value: Any) -> None:
    """Put a value at a JSON Pointer (RFC 6901) whose place is there."""
    *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    place: Any = config
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    if isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
