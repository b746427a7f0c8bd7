"""A queue file as the first release wrote it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

from service.contracts.requests import QueuedRequest

SCHEMA_1 = """
PRAGMA page_size=8192;
PRAGMA journal_mode=WAL;
CREATE TABLE request (
    sequence INTEGER PRIMARY KEY,
    accepted_unix_seconds REAL NOT NULL,
    expires_unix_seconds REAL NOT NULL,
    priority INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    spent BLOB,
    payload BLOB NOT NULL
) STRICT;
CREATE TABLE callback (
    sequence INTEGER PRIMARY KEY,
    accepted_unix_seconds REAL NOT NULL,
    queue_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    success INTEGER NOT NULL,
    headers BLOB NOT NULL,
    value BLOB NOT NULL
) STRICT;
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
PRAGMA user_version=1;
"""
"""What the first release created, to the letter."""


def write_schema_1(path: Path, *requests: QueuedRequest) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA_1)
        for sequence, request in enumerate(requests, start=1):
            connection.execute(
                "INSERT INTO request VALUES (?, ?, ?, 0, ?, NULL, ?)",
                (
                    sequence,
                    request.queued_at.timestamp(),
                    request.expires_at.timestamp(),
                    sequence - 1,
                    request.model_dump_json().encode(),
                ),
            )
        connection.execute(
            "INSERT INTO callback VALUES (77, 1.5, 'q', 't', 'k', 0, ?, ?)", (b'[["h","v"]]', b"\x00bytes")
        )
        connection.execute(
            "INSERT INTO idempotency VALUES ('c', 'key', 'q', ?, 't', 'digest', NULL)", (str(UUID(int=7)),)
        )
