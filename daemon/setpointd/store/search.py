"""Searching in the keys of living services: ``config_kv``."""

import re
from collections.abc import Iterator
from typing import Any

from setpoint_contracts import strictjson
from setpointd.auth import Principal
from setpointd.store.sql import Reading, may_match, stored_json

MAX_BYTES = 1024 * 1024
# What JSON writes differently in a string.
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_ESCAPE = re.compile(r"\\(?:u[0-9a-f]{4}|.)")
_WILDCARD = re.compile(r"[%_~]")


class SearchReads(Reading):
    """Searches in the newest configs."""

    def matches(self, query: str, service: str | None, who: Principal) -> Iterator[tuple[str, str, Any]]:
        """Service, key and value where a text stands in the key or in the value, of services that somebody sees.

        The text of a string is its characters; of any other value its JSON as a reader is shown it, with the strings in
        it as they are instead of their escapes. Case does not count, in the sense of Unicode's case folding. They come
        by service and key, until their values have ``MAX_BYTES``; looks at every key of the store, if need be.
        """
        folded = query.casefold()
        visible, globs = may_match("service", who.services if service is None else None)
        # SQLite knows the case of ASCII letters only. What it cannot judge is a candidate.
        rows = self._all(
            "SELECT service, key, value_json FROM config_kv"  # noqa: S608
            f" WHERE {'true' if service is None else 'service = :service'} AND {visible}"
            " AND (key LIKE :like ESCAPE '~' OR value_json LIKE :like ESCAPE '~'"
            " OR length(value_json) <> length(CAST(value_json AS BLOB))"
            " OR (:escaped AND instr(value_json, :escape))) ORDER BY service, key",
            service=service,
            like=f"%{_WILDCARD.sub(lambda found: '~' + found[0], folded)}%",
            escaped=_ESCAPED.search(folded) is not None,
            escape="\\",
            **globs,
        )
        left = MAX_BYTES
        for row in rows:
            if who.sees(row["service"]):
                value = stored_json(row["value_json"])
                if folded in row["key"].casefold() or folded in _text(value).casefold():
                    left -= len(row["value_json"].encode())
                    if left < 0:
                        return
                    yield row["service"], row["key"], value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = strictjson.dumps(value)
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda escape: str(strictjson.loads_stored(f'"{escape[0]}"')), text)
