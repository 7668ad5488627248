"""The application of the soak: it edits rows at random, and knows what their vectors should be."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter

import numpy as np
import psycopg

from vecfill.encode.hash_encoder import HashEncoder

EDITS = {
    "insert": "INSERT INTO docs (id, part, title) SELECT (random() * 100000)::int, {part}, 'new ' || n"
    " FROM generate_series(1, {some}) n ON CONFLICT DO NOTHING",
    "edit": "UPDATE docs SET title = 'edited ' || {n} || ' ' || id, seen = seen + 1 WHERE id % 37 = {n} % 37",
    "one": "UPDATE docs SET title = 'one ' || {n}, seen = seen + 1 WHERE id = {n}",
    "many": "UPDATE docs SET title = 'many ' || {n} || ' ' || id, seen = seen + 1 WHERE part = {part}",
    "other": "UPDATE docs SET note = 'note ' || {n} WHERE id % 11 = {n} % 11",
    "key": "UPDATE docs SET id = id + 100001, seen = seen + 1 WHERE id % 53 = {n} % 53 AND id < 100000",
    "delete": "DELETE FROM docs WHERE id % 61 = {n} % 61",
    "upsert": "INSERT INTO docs (id, part, title) VALUES ({n}, {part}, 'upserted {n}')"
    " ON CONFLICT (id, part) DO UPDATE SET title = EXCLUDED.title || docs.seen, seen = docs.seen + 1",
    "empty": "UPDATE docs SET title = CASE WHEN id % 2 = 0 THEN '' END, seen = seen + 1 WHERE id % 41 = {n} % 41",
    "null": "UPDATE docs SET embedding = NULL, seen = seen + 1 WHERE id % 43 = {n} % 43",
    "move": "UPDATE docs SET part = {part}, seen = seen + 1 WHERE id % 47 = {n} % 47 AND part <> {part}",
    "and back": "BEGIN; UPDATE docs SET title = 'x', seen = seen + 1 WHERE id = {n};"
    " UPDATE docs SET title = 'one ' || {n} WHERE id = {n}; COMMIT",
    "subtransaction": "BEGIN; SAVEPOINT s; UPDATE docs SET title = 'undone'; ROLLBACK TO s;"
    " UPDATE docs SET title = 'kept ' || {n}, seen = seen + 1 WHERE id = {n}; COMMIT",
    "rolled back": "BEGIN; UPDATE docs SET title = 'undone' WHERE id % 7 = {n} % 7; ROLLBACK",
}


class Application:
    """Edits until it is told to stop; ``done`` counts the edits by kind."""

    def __init__(self, uri: str, seed: int) -> None:
        self.uri, self.chance, self.done = uri, random.Random(seed + 1), Counter()

    def edit_until(self, stopped: threading.Event) -> None:
        """Edits, reconnects when the server went away, and leaves a transaction open now and then."""
        while not stopped.is_set():
            with contextlib.suppress(psycopg.Error), contextlib.ExitStack() as stack:
                edits = stack.enter_context(contextlib.closing(psycopg.connect(self.uri, autocommit=True)))
                slow = stack.enter_context(contextlib.closing(psycopg.connect(self.uri)))
                edits.execute("SET lock_timeout = '2s'")
                slow.execute("SET lock_timeout = '2s'")
                while not stopped.is_set():
                    self._edit(edits)
                    self._edit_slowly(slow)
                    time.sleep(self.chance.uniform(0, 0.3))
                slow.commit()

    def _edit(self, connection: psycopg.Connection) -> None:
        kind = self.chance.choice(list(EDITS))
        part, n, some = self.chance.randint(1, 3), self.chance.randint(1, 600), self.chance.randint(1, 30)
        try:
            connection.execute(EDITS[kind].format(part=part, n=n, some=some))
            self.done[kind] += 1
        except psycopg.OperationalError:
            raise
        except psycopg.Error:  # a lock that is held, a key that exists
            connection.execute("ROLLBACK")

    def _edit_slowly(self, connection: psycopg.Connection) -> None:
        """A transaction that stays open over many other edits, and over runs."""
        if self.chance.random() < 0.9:
            return
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            n = self.chance.randint(1, 600)
            with contextlib.suppress(psycopg.errors.LockNotAvailable):
                connection.execute("UPDATE docs SET title = 'slow ' || id, seen = seen + 1 WHERE id = %s", [n])
        elif self.chance.random() < 0.5:
            connection.commit()
            self.done["slow"] += 1
        else:
            connection.rollback()


def wrong_rows(connection: psycopg.Connection) -> list[tuple]:
    """Rows whose vector is not that of their text by either model: key, version, text."""
    rows = connection.execute(
        "SELECT id, part, seen, coalesce(title, ''), embedding::real[] FROM docs ORDER BY 1, 2", binary=True
    ).fetchall()
    texts = [row[3] for row in rows]
    if not rows:
        return []
    made = [HashEncoder(8).encode(texts).vectors, _truncated(texts)]
    wrong = []
    for number, (*key, text, stored) in enumerate(rows):
        if not text.strip():
            right = stored is None
        else:
            right = stored is not None and any(np.allclose(stored, one[number], atol=1e-6) for one in made)
        if not right:
            wrong.append((*key, text))
    return wrong


def _truncated(texts: list[str]) -> np.ndarray:
    """As ``hash:16`` gives them with ``--truncate-dim 8``."""
    vectors = HashEncoder(16).encode(texts).vectors[:, :8]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
