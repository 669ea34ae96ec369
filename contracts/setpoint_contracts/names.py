"""The names of the wire, as types that pydantic checks (wire section 2, "Names")."""

from typing import Annotated

from pydantic import StringConstraints

# pydantic matches with the Rust regex engine, where ``$`` is the end of the text and never a newline before it.
JTI_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
PRINCIPAL_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
SERVICE_PATTERN = PRINCIPAL_PATTERN
CONFIG_KEY_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$"
GLOB_PATTERN = r"^[a-z0-9._*?\[\]!-]{1,64}$"
KID_PATTERN = JTI_PATTERN
PROFILE_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f]*$"
INSTANCE_PATTERN = JTI_PATTERN

Jti = Annotated[str, StringConstraints(strict=True, pattern=JTI_PATTERN)]
"""A request id: the idempotency key of a command."""

Kid = Annotated[str, StringConstraints(strict=True, pattern=KID_PATTERN)]
"""The id of a token (RFC 7517 section 4.5)."""

PrincipalName = Annotated[str, StringConstraints(strict=True, pattern=PRINCIPAL_PATTERN)]
"""Who a token speaks for; one topic level."""

ServiceName = Annotated[str, StringConstraints(strict=True, pattern=SERVICE_PATTERN)]
"""A configured service; one topic level, so it can never be a filter."""

InstanceName = Annotated[str, StringConstraints(strict=True, pattern=INSTANCE_PATTERN)]
"""One of the running copies of a service: a host, a container, a serial number; one topic level."""

ServiceGlob = Annotated[str, StringConstraints(strict=True, pattern=GLOB_PATTERN)]
"""A shell-style pattern over service names: ``*``, ``?`` and ``[…]``."""

ConfigKey = Annotated[str, StringConstraints(strict=True, pattern=CONFIG_KEY_PATTERN)]
"""A top-level key of a config."""

ProfileName = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=100, pattern=PROFILE_PATTERN)]
"""A profile: any text without control characters (Unicode category Cc), compared by its code points."""

Reason = Annotated[str, StringConstraints(strict=True, max_length=500)]
"""Why somebody made a change; free text that stands in history and audit."""
