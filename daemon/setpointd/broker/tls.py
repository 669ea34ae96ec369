"""TLS to the broker."""

import ssl

from setpointd.errors import OperatorError
from setpointd.settings import Settings


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return what checks the broker's certificate; None: it is not to be encrypted. Raises ``OperatorError``."""
    if not settings.broker_tls:
        return None
    try:
        return ssl.create_default_context(cafile=settings.broker_ca)
    except (OSError, ssl.SSLError) as error:
        msg = f"the CA file {settings.broker_ca} cannot be used: {error.strerror}"
        raise OperatorError(msg) from None
