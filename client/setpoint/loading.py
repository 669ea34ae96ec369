"""What the cache has of a service, judged as what comes from the broker."""

from setpoint.cache import Found, Kept, RefusedError
from setpoint.follower import WHY, Follower, Order
from setpoint.taken import Taken, document_of


class Loading:
    """Judges what the cache has of one service, whose documents come on ``topic``. All raises ``RefusedError``."""

    def __init__(self, follower: Follower, service: str, topic: str, *, has_keys: bool) -> None:
        self._follower, self._service, self._topic = follower, service, topic
        self._why_unsigned = WHY["bad_signature"] if has_keys else "there is no key to check it with"

    def newest(self, found: Found) -> Taken:
        """Judge the newest document: none that is newer was seen."""
        what = f"the cached document of {self._service}"
        taken = self._judge(what, found.newest)
        if taken.order < self._follower.seen.get(self._service, taken.order):
            raise RefusedError(f"{what}: it is older than one that was seen")
        return taken

    def good(self, found: Found, newest: Order) -> Taken | None:
        """Judge the last good document, which is not newer than the newest; None when there is none beside that."""
        if found.refused is not None:
            raise RefusedError(found.refused)
        if found.good is None:
            return None
        what = f"the cached last good document of {self._service}"
        taken = self._judge(what, found.good)
        if taken.order > newest:
            raise RefusedError(f"{what}: it is newer than the newest")
        return taken

    def _judge(self, what: str, kept: Kept) -> Taken:
        if kept.topic != self._topic:
            raise RefusedError(f"{what}: it is another service's")
        document = self._follower.verified(kept.topic, kept.payload, kept.jws)
        if document is None:
            raise RefusedError(f"{what}: {self._why_unsigned}")
        return Taken(document_of(document), kept)
