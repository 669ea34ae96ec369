"""The stored reply of every mutation that ran: ``command_log``."""

from itertools import accumulate

from setpointd.records import StoredReply
from setpointd.store.sql import Reading, Writing

# Removed in one statement: so much that it holds the writer for some milliseconds, wherever the replies lie on disk.
SLICE_ROWS = 256
SLICE_BYTES = 256 * 1024


class ReplyReads(Reading):
    """Reads of stored replies."""

    def stored(self, kid: str, jti: str) -> StoredReply | None:
        """The reply to a command that ran, with the digest of the command."""
        row = self._one("SELECT digest, reply FROM command_log WHERE kid = :kid AND jti = :jti", kid=kid, jti=jti)
        return None if row is None else StoredReply(*row)


class ReplyWrites(ReplyReads, Writing):
    """Writes of stored replies."""

    def store(self, kid: str, jti: str, reply: StoredReply, expires_at: str) -> None:
        """Keep the reply of a command that ran, until it cannot be repeated any more."""
        self._do(
            "INSERT INTO command_log (kid, jti, digest, reply, expires_at)"
            " VALUES (:kid, :jti, :digest, :reply, :expires_at)",
            kid=kid,
            jti=jti,
            digest=reply.digest,
            reply=reply.payload,
            expires_at=expires_at,
        )

    def forget(self, now: str) -> int:
        """Remove some of the replies that have run out; how many. Call it again until there are none."""
        expired = self._all(
            "SELECT kid, jti, length(reply) AS bytes FROM command_log WHERE expires_at < :now"
            " ORDER BY expires_at LIMIT :limit",
            now=now,
            limit=SLICE_ROWS,
        ).fetchall()
        sizes = accumulate(row["bytes"] for row in expired)
        rows = [dict(row) for row, upto in zip(expired, sizes, strict=True) if upto - row["bytes"] < SLICE_BYTES]
        self._do_many("DELETE FROM command_log WHERE kid = :kid AND jti = :jti", rows)
        return len(rows)
