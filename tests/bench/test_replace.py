"""``vecfill bench replace`` on few rows: each way is measured, and nothing remains."""

from __future__ import annotations

import pytest

from vecfill.bench.replace import Plan, measure
from vecfill.bench.report import print_replace
from vecfill.config.migrate import IndexOptions
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database


@pytest.mark.slow
def test_each_way_is_measured_and_nothing_remains(connect, database, capsys):
    said = []
    found = measure(Plan(rows=40, dim=8, only=(), indexes=IndexOptions()), Database(database), said.append)
    assert [line["name"] for line in found["ways"]] == ["live", "in place", "beside", "fresh"]
    assert [line["updated"] for line in found["ways"]] == [40] * 4
    assert all(line["seconds"] > 0 and line["wal_bytes"] > 0 and line["longest_read_s"] > 0 for line in found["ways"])
    assert found["ratio"] > 0
    assert len(said) == 4
    assert connect.execute("SELECT count(*) FROM pg_namespace WHERE nspname ~ '^vecfill'").fetchone() == (0,)
    print_replace(found)
    assert "in place is" in capsys.readouterr().out


def test_a_way_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match=r"--only sideways: the ways are live, in place, beside, fresh"):
        measure(Plan(rows=1, dim=8, only=("sideways",), indexes=IndexOptions()), Database("postgresql:///none"), print)
