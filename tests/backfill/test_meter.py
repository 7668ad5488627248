"""Time left and rate, from simulated runs: no clock, no server."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from vecfill.backfill.meter import Meter, StartupClock, changes_wait, duration, fields, line
from vecfill.backfill.progress import Progress
from vecfill.backfill.tally import Tally

ROWS, BLOCK = 6_000, 2_000


def simulated(*, encode: float, write: float, told: bool, max_rate: float | None = None):
    """Yields (now, end, Progress) of a run whose stages take so many rows per second, twice a second.

    ``told``: whether the encoder reports within a block. Writing follows encoding, a block at a time.
    """
    begin, tally = 7.0, Tally()
    counts, encoded_at, written_at = tally.begin_sweep().counts, begin, begin
    blocks = []
    for _ in range(ROWS // BLOCK):
        encoded_at += BLOCK / encode
        started = max(encoded_at, written_at)
        written_at = started + BLOCK / min(write, max_rate or write)
        blocks.append((encoded_at, started, written_at))
    for tick in range(2 * int(written_at) + 3):
        now = tick / 2
        whole = sum(encoded <= now for encoded, _, _ in blocks) * BLOCK
        encoded = max(0, min(ROWS, int((now - begin) * encode))) if told else whole
        done = sum(written <= now for _, _, written in blocks) * BLOCK
        committed = sum(int(BLOCK * min(1, max(0, now - a) / (b - a))) for _, a, b in blocks)
        counts["updated"], tally.seconds["write"], tally.seconds["encode"] = done, done / write, done / encode
        yield (
            now,
            written_at,
            Progress(
                done=done,
                eligible=ROWS,
                sweep=1,
                tally=tally,
                workers={"read": 1, "encode": 1, "write": 1},
                reached=lambda encoded=encoded, committed=committed: (encoded, committed),
            ),
        )


@pytest.mark.parametrize(
    ("run", "limit"),
    [
        ({"encode": 235, "write": 9_000, "told": True}, "encode"),
        ({"encode": 235, "write": 9_000, "told": False}, "encode"),
        ({"encode": 900, "write": 100, "told": True}, "write"),
        ({"encode": 900, "write": 5_000, "told": True, "max_rate": 100}, "--max-rate"),
    ],
)
def test_from_a_third_of_a_run_on_the_time_left_is_within_a_quarter(run, limit):
    """A run that tells nothing within a block knows its rate from the second block on."""
    meter, looked = Meter(run.get("max_rate")), 0
    known = 1 / 3 if run["told"] else 2 / 3
    for now, end, event in simulated(**run):
        meter.update(event, now)
        if meter.position >= known * ROWS and event.done >= BLOCK and event.done < ROWS:
            looked += 1
            assert meter.left == pytest.approx(end - now, rel=0.25, abs=1.5)
            assert meter.limit(event) == limit
    assert looked >= 10
    assert (meter.position, meter.left) == (ROWS, 0)


def test_the_rate_falls_while_nothing_arrives():
    meter, tally = Meter(), Tally()
    for now, rows in [(1, 100), (2, 200), (3, 300), (4, 300), (13, 300)]:
        meter.update(Progress(eligible=1_000, sweep=1, tally=tally, reached=lambda rows=rows: (rows, 0)), now)
        if now in (3, 4):
            assert meter.rate == pytest.approx(100)
    assert meter.rate == pytest.approx(200 / 11)


@pytest.mark.parametrize(("max_rate", "waits_for"), [(100.0, None), (None, "the end of a pause")])
def test_rows_that_are_encoded_and_held_back_are_not_done(max_rate, waits_for):
    """One burst of the encoder, such as a small table's, says nothing of the time that the writers take."""
    meter = Meter(max_rate, waits_for=waits_for)
    event = Progress(eligible=4_000, sweep=1, tally=Tally(), workers={"write": 1}, reached=lambda: (3_718, 190))
    meter.update(event, 9.0)
    assert meter.position == 190
    assert meter.left == (None if max_rate is None else pytest.approx(38.1))


def test_a_run_without_a_limit_has_a_state_that_json_can_hold():
    """Its pacing says ``inf`` for no limit, which the ledger refused, so that the run was not recorded."""
    meter = Meter()
    event = Progress(eligible=2_000, sweep=1, tally=Tally(), workers={"write": 1}, max_rate=math.inf)
    meter.update(replace(event, reached=lambda: (100, 0)), 1.0)
    assert json.loads(json.dumps(fields(event, meter), allow_nan=False))["rows_per_s"] is None


def test_the_next_drain_of_a_watch_begins_anew():
    """Its first sweep has the number of the last one's."""
    meter = Meter()
    for now, (rows, tally) in enumerate([(498, Tally()), (122, Tally())]):
        meter.update(Progress(done=rows, eligible=rows, sweep=1, tally=tally, workers={"write": 1}), now)
    assert (meter.position, meter.left) == (122, 0)


def test_one_change_waits_and_several_wait():
    assert changes_wait(1, 90) == "1 change waits, and has waited for 90 s"
    assert changes_wait(1_200, 180) == "1,200 changes wait, the oldest for 3 min"


def test_the_start_up_is_shown_by_step_with_its_seconds():
    clock = StartupClock()
    for now, event in [(0, Progress(step="survey")), (0.3, Progress(step="engine")), (8.4, Progress(sweep=1))]:
        clock.update(event, now)
    assert clock.lines(12.4) == ("start-up: survey 0.3 s, Ray 8.1 s, model 4 s", "start-up: model 4 s")
    clock.update(Progress(sweep=1, eligible=9, reached=lambda: (1, 0)), 13)
    assert clock.ended == 13


def test_a_line_says_how_far_how_fast_how_long_and_what_limits():
    meter, tally = Meter(), Tally()
    event = Progress(done=2_801, eligible=6_000, sweep=1, tally=tally, workers={"read": 1, "encode": 2, "write": 1})
    assert line(fields(event, meter)) == "0 of 6,000 rows (0%)"
    tally.seconds |= {"encode": 11.0, "write": 5.0}
    meter.position, meter.rate, meter.left = 2_801, 235.4, 13.6
    assert line(fields(event, meter)) == "2,801 of 6,000 rows (47%), 235 rows/s, 14 s left, limited by: encode"
    meter.waits_for = "the server"
    assert line(fields(event, meter)) == "2,801 of 6,000 rows (47%), 235 rows/s, 14 s left, waiting for: the server"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (150, "2 min"), (11_100, "3 h 5 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text
