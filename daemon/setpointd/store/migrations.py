"""The tables of the store, step by step. A step that was released is never changed."""

from sqlite_utils import Database, Migrations

from setpointd.store.chain import MEMBERS, START

migrations = Migrations("setpoint")


@migrations()
def first_tables(db: Database) -> None:
    """Config state with its versions and history, tokens, stored replies, audit and outbox."""
    db.executescript("""
        -- one row: whose store this is, and how far it is
        CREATE TABLE config_epoch (
            store_id TEXT PRIMARY KEY,
            epoch    INTEGER NOT NULL,
            revision INTEGER NOT NULL,
            instance TEXT           -- the daemon that last ran on this store
        );
        -- the newest version of every service, tombstones included
        CREATE TABLE config_state (
            service    TEXT PRIMARY KEY,
            version    INTEGER NOT NULL,
            revision   INTEGER NOT NULL,
            deleted    INTEGER NOT NULL,
            updated_at TEXT NOT NULL,
            updated_by TEXT NOT NULL
        );
        -- its top-level keys, one row each
        CREATE TABLE config_kv (
            service    TEXT NOT NULL,
            key        TEXT NOT NULL,
            value_json TEXT NOT NULL,
            PRIMARY KEY (service, key)
        );
        -- every version whole; config_json is null in a tombstone
        CREATE TABLE config_versions (
            service     TEXT NOT NULL,
            version     INTEGER NOT NULL,
            revision    INTEGER NOT NULL,
            epoch       INTEGER NOT NULL,
            config_json TEXT,
            op          TEXT NOT NULL,
            reason      TEXT,
            updated_at  TEXT NOT NULL,
            updated_by  TEXT NOT NULL,
            request_id  TEXT NOT NULL,
            PRIMARY KEY (service, version)
        );
        -- every change of a top-level key
        CREATE TABLE config_history (
            id         INTEGER PRIMARY KEY,
            revision   INTEGER NOT NULL,
            service    TEXT NOT NULL,
            version    INTEGER NOT NULL,
            key        TEXT NOT NULL,
            op         TEXT NOT NULL,
            old_json   TEXT,
            new_json   TEXT,
            changed_at TEXT NOT NULL,
            changed_by TEXT NOT NULL,
            reason     TEXT,
            request_id TEXT NOT NULL
        );
        CREATE INDEX config_history_service ON config_history (service, id);
        -- key: a sealed secret (HS256) or a public JWK (Ed25519)
        CREATE TABLE api_tokens (
            kid           TEXT PRIMARY KEY,
            name          TEXT NOT NULL,
            role          TEXT NOT NULL,
            services_json TEXT,
            alg           TEXT NOT NULL,
            key           TEXT NOT NULL,
            created_at    TEXT NOT NULL,
            created_by    TEXT NOT NULL,
            expires_at    TEXT,
            revoked_at    TEXT,
            last_used_at  TEXT
        );
        -- the stored reply of every mutation that ran
        CREATE TABLE command_log (
            kid        TEXT NOT NULL,
            jti        TEXT NOT NULL,
            digest     BLOB NOT NULL,
            reply      BLOB NOT NULL,
            expires_at TEXT NOT NULL,
            PRIMARY KEY (kid, jti)
        );
        CREATE INDEX command_log_expires ON command_log (expires_at);
        CREATE TABLE audit_log (
            id           INTEGER PRIMARY KEY,
            action       TEXT NOT NULL,
            user         TEXT,
            service      TEXT,
            timestamp    TEXT NOT NULL,
            request_id   TEXT,
            revision     INTEGER,
            details_json TEXT NOT NULL
        );
        -- what the broker has not confirmed yet: ref is a service (kind 'updated') or an audit_log id (kind 'audit')
        CREATE TABLE outbox (
            id   INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            ref  TEXT NOT NULL
        );
    """)


@migrations()
def one_outbox_row_each(db: Database) -> None:
    """The outbox holds each service or event once, and is read through an index; tombstones are retained for a time."""
    for statement in (
        "ALTER TABLE outbox RENAME TO outbox_before",
        # id: what goes first; writes: how often it was put in, so that what was put in again is not taken out
        """CREATE TABLE outbox (
            id     INTEGER PRIMARY KEY AUTOINCREMENT,
            kind   TEXT NOT NULL,
            ref    TEXT NOT NULL,
            writes INTEGER NOT NULL DEFAULT 1,
            UNIQUE (kind, ref)
        )""",
        "CREATE INDEX outbox_first ON outbox (kind, id)",
        "INSERT INTO outbox (kind, ref) SELECT kind, ref FROM outbox_before GROUP BY kind, ref ORDER BY min(id)",
        "DROP TABLE outbox_before",
        # cleared: 1 when the tombstone of a deleted service is not retained any more
        "ALTER TABLE config_state ADD COLUMN cleared INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX config_state_tombstones ON config_state (updated_at) WHERE deleted = 1 AND cleared = 0",
    ):
        db.conn.execute(statement)


@migrations()
def profiles(db: Database) -> None:
    """Profiles. Each names versions, which never change, and holds no config of its own."""
    for statement in (
        # revision: that of the store when it was saved
        """CREATE TABLE profiles (
            name        TEXT PRIMARY KEY,
            description TEXT,
            revision    INTEGER NOT NULL,
            created_at  TEXT NOT NULL,
            created_by  TEXT NOT NULL,
            updated_at  TEXT NOT NULL,
            updated_by  TEXT NOT NULL
        )""",
        # profile: its name
        """CREATE TABLE profile_services (
            profile TEXT NOT NULL,
            service TEXT NOT NULL,
            version INTEGER NOT NULL,
            PRIMARY KEY (profile, service)
        ) WITHOUT ROWID""",
        # which versions are needed
        "CREATE INDEX profile_services_version ON profile_services (service, version)",
    ):
        db.conn.execute(statement)


@migrations()
def schemas_of_configs(db: Database) -> None:
    """The JSON Schema that the configs of a service have to fit."""
    db.conn.execute("""CREATE TABLE config_schemas (
        service     TEXT PRIMARY KEY,
        schema_json TEXT NOT NULL,
        updated_at  TEXT NOT NULL,
        updated_by  TEXT NOT NULL
    )""")


@migrations()
def chained_audit_log(db: Database) -> None:
    """Every row of the audit log has the hash of the row before it, and its own; see ``chain``."""
    for column in ("prev_hash", "hash"):
        db.conn.execute(f"ALTER TABLE audit_log ADD COLUMN {column} BLOB NOT NULL DEFAULT x''")
    last, portion = START, 10_000
    while rows := db.conn.execute(
        f"SELECT {MEMBERS} FROM audit_log WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608
        (last.id, portion),
    ).fetchall():
        chained = []
        for row in rows:
            link = last.then(tuple(row))
            chained.append((last.hash, link.hash, link.id))
            last = link
        db.conn.executemany("UPDATE audit_log SET prev_hash = ?, hash = ? WHERE id = ?", chained)


@migrations()
def changes_of_tokens_are_counted(db: Database) -> None:
    """A daemon sees by one number whether somebody changed a token; ``last_used_at`` decides nothing."""
    bump = "BEGIN UPDATE token_changes SET count = count + 1; END"
    decisive = "kid, name, role, services_json, alg, key, created_at, created_by, expires_at, revoked_at"
    for statement in (
        "CREATE TABLE token_changes (count INTEGER NOT NULL)",
        "INSERT INTO token_changes (count) VALUES (0)",
        f"CREATE TRIGGER token_added AFTER INSERT ON api_tokens {bump}",
        f"CREATE TRIGGER token_changed AFTER UPDATE OF {decisive} ON api_tokens {bump}",
        f"CREATE TRIGGER token_removed AFTER DELETE ON api_tokens {bump}",
    ):
        db.conn.execute(statement)


@migrations()
def pruned_history(db: Database) -> None:
    """What was removed from the history, and what is still to be."""
    for statement in (
        # one row for each service of which something was removed: the highest version that is gone with its revision,
        # and the lowest revision and time of all that are
        """CREATE TABLE config_pruned (
            service        TEXT PRIMARY KEY,
            version        INTEGER NOT NULL,
            revision       INTEGER NOT NULL,
            first_revision INTEGER NOT NULL,
            first_at       TEXT NOT NULL,
            pruned_at      TEXT NOT NULL
        )""",
        # what a command has left to the background; since and versions say what stays
        """CREATE TABLE config_prunes (
            id         INTEGER PRIMARY KEY,
            since      TEXT,
            versions   INTEGER,
            asked_by   TEXT,
            request_id TEXT
        )""",
    ):
        db.conn.execute(statement)


@migrations()
def history_is_read(db: Database) -> None:
    """The changes of one key and those of one user are found through an index, those of a time by their ids."""
    for statement in (
        "CREATE INDEX config_history_key ON config_history (service, key, id)",
        "CREATE INDEX config_history_user ON config_history (changed_by, id)",
        # where times do not grow with ids: the last entry before the clock was set back, its time, and that of the next
        """CREATE TABLE config_history_turns (
            id     INTEGER PRIMARY KEY,
            was    TEXT NOT NULL,
            became TEXT NOT NULL
        )""",
        """INSERT INTO config_history_turns (id, was, became) SELECT id, changed_at, later FROM
            (SELECT id, changed_at, lead(changed_at) OVER (ORDER BY id) AS later FROM config_history)
            WHERE later < changed_at""",
    ):
        db.conn.execute(statement)


@migrations()
def secret_values(db: Database) -> None:
    """The sealed values of secrets, by the tags under which configs name them; see ``secret_values``."""
    db.conn.execute("""CREATE TABLE config_secrets (
        service      TEXT NOT NULL,
        tag          TEXT NOT NULL,
        digest       BLOB NOT NULL,
        sealed       BLOB NOT NULL,
        last_version INTEGER NOT NULL,
        PRIMARY KEY (service, tag)
    )""")


@migrations()
def fewer_pages(db: Database) -> None:
    """A write touches fewer pages of the file: events wait in a table of their own, by their ids; one index less."""
    for statement in (
        "CREATE TABLE outbox_events (id INTEGER PRIMARY KEY)",
        "INSERT INTO outbox_events (id) SELECT CAST(ref AS INTEGER) FROM outbox WHERE kind = 'audit'",
        "ALTER TABLE outbox RENAME TO outbox_before",
        # id: what goes first; writes: how often it was put in, so that what was put in again is not taken out
        """CREATE TABLE outbox_documents (
            id     INTEGER PRIMARY KEY AUTOINCREMENT,
            kind   TEXT NOT NULL,
            ref    TEXT NOT NULL,
            writes INTEGER NOT NULL DEFAULT 1,
            UNIQUE (kind, ref)
        )""",
        "INSERT INTO outbox_documents SELECT id, kind, ref, writes FROM outbox_before WHERE kind <> 'audit'",
        "DROP TABLE outbox_before",
        "DROP INDEX config_history_key",
    ):
        db.conn.execute(statement)
