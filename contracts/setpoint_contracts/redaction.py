"""How a secret value stands in what everybody is shown: ``{"$secret": "<tag>"}`` (wire section 6, Secrets)."""

import re
from typing import Any

MEMBER = "$secret"
"""The one member of the object that stands for a secret. No other object may have a member of this name."""
MAX_SECRETS = 256
"""How many secrets one config may hold."""
_TAG = re.compile(r"[0-9a-f]{8}")
_SHOWN = re.compile(r'"\$secret":"([0-9a-f]{8})"')


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


def secrets_in(text: str) -> set[str]:
    """Give the tags of all secrets that stand in a value, which is given as compact JSON."""
    return set(_SHOWN.findall(text))  # in a string the quotes would be escaped
