"""The tables of the database, and how a file is recognised as one of ours."""

from __future__ import annotations

FORMAT = 2
"""The version of the store's format: directory layout, tables and blob names together."""

APPLICATION_ID = 0x53484752
"""``SHGR``, at byte 68 of the SQLite header."""

HEADER_BYTES = 100
SQLITE_MAGIC = b"SQLite format 3\x00"

TABLES = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- One row: the current generation, its influence digest, the ledger's frontier, and a digest of
-- everything that decides an answer.
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    generation INTEGER NOT NULL,
    digest TEXT NOT NULL,
    ledger_size INTEGER NOT NULL,
    ledger_peaks TEXT NOT NULL,
    seal TEXT NOT NULL
) STRICT;

-- The key is a digest salted per store, so that no name given in it stays. What opens the state in
-- a receipt goes when the state does.
CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    accepted REAL NOT NULL,
    deadline REAL NOT NULL,
    commitment TEXT NOT NULL,
    fenced TEXT NOT NULL,
    labels TEXT NOT NULL,
    generation INTEGER,
    state_opening TEXT,
    changed TEXT NOT NULL DEFAULT '{{}}',
    receipt INTEGER UNIQUE
) STRICT;

-- A sample that a request is pending for names it, so it cannot be requested twice.
CREATE TABLE samples (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    label TEXT NOT NULL,
    owner TEXT,
    source TEXT,
    shard INTEGER NOT NULL,
    request INTEGER REFERENCES requests (id)
) STRICT;
CREATE INDEX samples_by_shard ON samples (shard);
CREATE INDEX samples_pending ON samples (request) WHERE request IS NOT NULL;

-- Shards that have samples, no others.
CREATE TABLE shards (
    shard INTEGER PRIMARY KEY,
    records TEXT NOT NULL,
    samples INTEGER NOT NULL,
    labels TEXT NOT NULL
) STRICT;

CREATE TABLE pointers (
    kind TEXT NOT NULL,
    key INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT;

-- Blobs that a publication replaced and that are not yet erased.
CREATE TABLE erasures (
    kind TEXT NOT NULL,
    key INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (kind, key, digest)
) STRICT;

-- Blobs that were refitted for a generation to come; the basis says from what.
CREATE TABLE refits (
    kind TEXT NOT NULL,
    key INTEGER NOT NULL,
    basis TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT;

-- The public keys of those who have signed receipts.
CREATE TABLE signers (
    fingerprint TEXT PRIMARY KEY,
    public BLOB NOT NULL
) STRICT;

-- Backups that may be restored one day, each with its public key.
CREATE TABLE backups (
    id TEXT PRIMARY KEY,
    public BLOB NOT NULL,
    made REAL NOT NULL
) STRICT;

-- What each request since a backup forgot, sealed so that only that backup can read it.
CREATE TABLE tombstones (
    backup TEXT NOT NULL REFERENCES backups (id) ON DELETE CASCADE,
    request INTEGER NOT NULL REFERENCES requests (id),
    box BLOB NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (backup, request)
) STRICT;

CREATE TABLE ledger (
    position INTEGER PRIMARY KEY,
    entry BLOB NOT NULL
) STRICT;
CREATE TRIGGER ledger_keeps_entries BEFORE DELETE ON ledger
    BEGIN SELECT RAISE (ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_fixes_entries BEFORE UPDATE ON ledger
    BEGIN SELECT RAISE (ABORT, 'the ledger is append-only'); END;
"""
