"""A run that is adjusted by ``vecfill status --set``, through the ledger."""

from __future__ import annotations

import logging
from dataclasses import replace

import psycopg
from tests.tables import DOCS, MODEL, meanwhile, wait_until

from vecfill import RunResult, run, track
from vecfill.config.limits import WriteLimits
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.engine.warm import Warm
from vecfill.table_status import Watch


def paused_slowed_and_let_go(
    connect: psycopg.Connection, database: str, caplog, options: RunOptions, warm: Warm | None = None
) -> RunResult:
    """Runs on a table ``docs``, and checks that each setting is obeyed and shown."""
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
        steps.append(connect.execute("SELECT count(embedding) < count(*) FROM docs").fetchone()[0])
        watch = Watch(Target(table="docs"), database, {"max_rate": None, "pause": None})
        watch.look()
        watch.close()

    options = replace(options, write_limits=WriteLimits(pause=True), max_seconds=200)
    with caplog.at_level(logging.INFO, "vecfill"), meanwhile(operate):
        result = run(DOCS, MODEL, database=database, options=options, warm=warm)
    assert steps == [{"max_rate": 1.0, "pause": False}, {"max_rate": 1.0, "pause": True}, True]
    assert said("new settings by `vecfill status --set`: no limit")
    return result
