"""How a secret value stands in what everybody is shown: ``{"$secret": "<tag>"}`` (wire section 6, Secrets)."""

import re
from collections.abc import Iterator
from typing import Any

MEMBER = "$secret"
"""The one member of the object that stands for a secret. No other object may have a member of this name."""
MAX_SECRETS = 256
"""How many secrets one config may hold."""
_TAG = re.compile(r"[0-9a-f]{8}")


def shown(tag: str) -> dict[str, Any]:
    """Make what stands for the secret with a tag."""
    return {MEMBER: tag}


def is_secret(value: Any) -> bool:
    """Whether a value stands for a secret, or has the member that is kept for that."""
    return isinstance(value, dict) and MEMBER in value


def tag_of(value: Any) -> str | None:
    """Read the tag of what stands for a secret; None when it is not exactly that."""
    tag = value.get(MEMBER) if is_secret(value) and len(value) == 1 else None
    return tag if isinstance(tag, str) and _TAG.fullmatch(tag) else None


def secrets_in(value: Any) -> Iterator[str]:
    """Give the tags of all secrets that stand in a value, at any depth."""
    tag = tag_of(value)
    if tag is not None:
        yield tag
    elif isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from secrets_in(child)
