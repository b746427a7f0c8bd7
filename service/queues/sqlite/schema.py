"""The tables of a queue file."""

SCHEMA_VERSION = 10

SCHEMA = """
CREATE TABLE request (
    sequence INTEGER PRIMARY KEY,
    queue_id TEXT NOT NULL,
    caller TEXT,
    provider TEXT,
    model TEXT,
    accepted_unix_seconds REAL NOT NULL,
    expires_unix_seconds REAL NOT NULL,
    priority INTEGER NOT NULL,
    estimated_tokens INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    spent BLOB,
    payload BLOB NOT NULL,
    unreadable TEXT -- why it cannot be read; NULL if it can
) STRICT;
CREATE INDEX request_unreadable ON request (unreadable) WHERE unreadable IS NOT NULL;

CREATE TABLE callback (
    sequence INTEGER PRIMARY KEY,
    accepted_unix_seconds REAL NOT NULL,
    queue_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    success INTEGER NOT NULL,
    headers BLOB NOT NULL,
    value BLOB NOT NULL,
    parked_reason TEXT,
    parked_unix_seconds REAL,
    unreadable TEXT
) STRICT;
CREATE INDEX callback_parked ON callback (sequence) WHERE parked_reason IS NOT NULL;
CREATE INDEX callback_unreadable ON callback (unreadable) WHERE unreadable IS NOT NULL;

CREATE TABLE usage_event (
    sequence INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    headers BLOB NOT NULL,
    value BLOB NOT NULL,
    unreadable TEXT
) STRICT;
CREATE INDEX usage_event_unreadable ON usage_event (unreadable) WHERE unreadable IS NOT NULL;

-- How far each topic was written before anything of ours that still waits.
CREATE TABLE written (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    caller TEXT NOT NULL,
    key TEXT NOT NULL,
    queue_id TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    callback_topic TEXT NOT NULL,
    body_digest TEXT NOT NULL,
    ended_unix_seconds REAL,
    PRIMARY KEY (caller, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_ended ON idempotency (ended_unix_seconds) WHERE ended_unix_seconds IS NOT NULL;

-- A million entries take about 100 MB: UUIDs are stored as 16 bytes.
CREATE TABLE journal (
    sequence INTEGER PRIMARY KEY,
    queue_id ANY NOT NULL,
    key ANY NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER,
    offset INTEGER,
    success INTEGER NOT NULL,
    accepted_unix_seconds REAL NOT NULL,
    published_unix_seconds REAL NOT NULL
) STRICT;

CREATE TABLE charge (
    day TEXT NOT NULL,
    caller TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    calls INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    usd REAL NOT NULL,
    PRIMARY KEY (day, caller, provider, model)
) STRICT, WITHOUT ROWID;
"""
