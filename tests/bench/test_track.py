"""``vecfill bench track``: what an application pays for triggers."""

from __future__ import annotations

import json

from tests.bench.test_scratch import remains


def test_each_edit_is_measured_with_and_without_triggers(vecfill, database, connect):
    ended = vecfill("bench", "track", "-d", database, "--rows", "50", "--rounds", "2", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert len(found["edits"]) == 5
    for line in found["edits"]:
        assert min(line["plain_us"], line["tracked_us"], line["ratio"]) > 0
    assert found["ledger_bytes_per_row"] > 0
    assert remains(connect) == []
    assert "UPDATE of the text" in vecfill("bench", "track", "-d", database, "--rows", "20", "--rounds", "1").out
