"""A real PgBouncer in transaction mode in front of the test's database."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.needs import needs_tool
from tests.pooler import Pooler


@pytest.fixture
def pooler(database: str) -> Iterator[str]:
    """Connection string of the test's database through PgBouncer, which keeps at most ``POOL`` connections to it."""
    program = needs_tool("pgbouncer", package="pgbouncer")
    with (
        tempfile.TemporaryDirectory(prefix="pgbouncer-", dir="/tmp") as folder,
        Pooler(program, database, Path(folder)).running() as uri,
    ):
        yield uri
