"""``vecfill status --set`` reaches a run on either engine, through the ledger."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from tests.tables import DOCS, INLINE, MODEL, make_docs, meanwhile, wait_until

from vecfill import run, track
from vecfill.config.engine import EngineOptions
from vecfill.config.limits import WriteLimits
from vecfill.config.target import Target
from vecfill.table_status import Watch

RAY = replace(INLINE, engine=EngineOptions(engine="ray"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own settings, at its import
@pytest.mark.parametrize("options", [INLINE, RAY], ids=["inline", "ray"])
def test_a_run_is_paused_slowed_and_let_go(database, connect, caplog, warm, options):
    make_docs(connect, 300)
    track(DOCS, database=database)
    steps = []

    def said(text: str) -> bool:
        return text in caplog.text

    def operate(_) -> None:
        wait_until(lambda: said("pausing: `vecfill status --set pause=true`"))
        for changes, sign in (
            ({"max_rate": 1.0, "pause": False}, "continuing after a pause"),
            ({"pause": True}, "new settings by `vecfill status --set`: max_rate=1.0, pause=true"),
        ):
            watch = Watch(Target(table="docs"), database, changes)
            found = watch.look().ledger.running.run
            watch.close()
            wait_until(lambda sign=sign: said(sign))
            steps.append({name: found.settings.get(name) for name in ("max_rate", "pause")})
        steps.append(connect.execute("SELECT count(embedding) < 300 FROM docs").fetchone()[0])
        watch = Watch(Target(table="docs"), database, {"max_rate": None, "pause": None})
        watch.look()
        watch.close()

    options = replace(options, write_limits=WriteLimits(pause=True), max_seconds=200)
    with caplog.at_level(logging.INFO, "vecfill"), meanwhile(operate):
        result = run(DOCS, MODEL, database=database, options=options, warm=warm)
    assert (result.outcome, result.updated) == ("complete", 300)
    assert steps == [{"max_rate": 1.0, "pause": False}, {"max_rate": 1.0, "pause": True}, True]
    assert said("new settings by `vecfill status --set`: no limit")
