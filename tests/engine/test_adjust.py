"""``vecfill status --set`` reaches a run, through the ledger. One on Ray, by PgBouncer: ``hosts/test_pgbouncer.py``."""

from __future__ import annotations

import pytest
from tests.adjusting import paused_slowed_and_let_go
from tests.tables import INLINE, make_docs


@pytest.mark.slow
def test_a_run_is_paused_slowed_and_let_go(database, connect, caplog):
    make_docs(connect, 300)
    result = paused_slowed_and_let_go(connect, database, caplog, INLINE)
    assert (result.outcome, result.updated) == ("complete", 300)
