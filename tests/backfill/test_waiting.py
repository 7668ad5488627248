"""What is waited for is known by the log, until rows arrive again or the pause is over."""

from __future__ import annotations

import logging

from vecfill.backfill.waiting import Waiting

log = logging.getLogger("vecfill.of.a.stage")


def test_a_wait_lasts_until_rows_arrive_after_the_next_try():
    waiting = Waiting()
    with waiting.taken():
        log.warning("away", extra={"waits_for": "the server", "wait_s": 0.0})
        assert [waiting.look(reached) for reached in [(5, 5), (5, 5), (5, 6), (5, 6)]] == ["the server"] * 2 + [
            None
        ] * 2
        log.warning("away", extra={"waits_for": "the server", "wait_s": 3_600.0})
        assert [waiting.look(reached) for reached in [(5, 6), (6, 6), (7, 6)]] == ["the server"] * 3
    log.warning("of nobody", extra={"waits_for": "the API"})
    assert waiting.look((7, 6)) == "the server"


def test_a_pause_lasts_until_it_is_over():
    waiting = Waiting()
    with waiting.taken():
        log.warning("pausing", extra={"event": "pause", "waits_for": "replication"})
        assert [waiting.look(reached) for reached in [(5, 5), (9, 5)]] == ["replication"] * 2
        log.warning("continuing", extra={"event": "resume"})
        assert waiting.look((9, 5)) is None
