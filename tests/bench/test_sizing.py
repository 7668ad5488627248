"""``vecfill bench size``: measured and derived apart, and the slowest part decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vecfill.bench.sizing import Machine, Speed, Writing, sizes, speeds_of, writing_of
from vecfill.errors import ConfigError

CHECK = {
    "speed": [
        {"model": "small", "dtype": "bfloat16", "tokens": 20, "device_tokens_per_s": 2_000_000.0},
        {"model": "small", "dtype": "bfloat16", "tokens": 512, "device_tokens_per_s": 4_096_000.0},
    ],
    "tokens": {"short texts": {"1": 300_000.0, "4": 1_000_000.0}, "long texts": {"1": 400_000.0, "4": 1_536_000.0}},
}
PIPELINE = {
    "model": "some/model",
    "contenders": [
        {"name": "encode", "dtype": "float32", "rows_per_s": 1.0, "tokens_per_s": 1.0},
        {"name": "encoder alone", "dtype": "float32", "rows_per_s": 400.0, "tokens_per_s": 8_420.0},
    ],
}
WRITE = {
    "dim": 384,
    "ways": [
        {"name": "vecfill, one writer", "rows_per_s": 30_000.0, "wal_bytes_per_row": 1_900.0},
        {"name": "vecfill, writers", "rows_per_s": 50_000.0, "wal_bytes_per_row": 2_000.0},
    ],
}


def test_what_a_gpu_check_and_a_pipeline_measured():
    assert speeds_of(CHECK) == [
        Speed(model="small, bfloat16", tokens=20, rows_per_s=100_000, tokenized_per_s=12_500),
        Speed(model="small, bfloat16", tokens=512, rows_per_s=8_000, tokenized_per_s=750),
    ]
    fast = {**CHECK["tokens"], "short texts, fast": {"2": 8_000_000.0}}
    assert speeds_of({**CHECK, "tokens": fast})[0].tokenized_per_s == 200_000
    expected = Speed(model="some/model, float32", tokens=21.1, rows_per_s=400, tokenized_per_s=None)
    assert speeds_of(PIPELINE) == [expected]
    assert writing_of(WRITE) == Writing(dim=384, rows_per_s=50_000, wal_bytes_per_row=2_000)


@pytest.mark.parametrize(
    ("devices", "cores", "wal", "limit", "rate"),
    [
        (1, 100, None, "UPDATE", 50_000),
        (1, 100, 90.0, "WAL", 45_000),
        (1, 2, 90.0, "tokenizer", 25_000),
        (1, 100, 1e9, "UPDATE", 50_000),
    ],
)
def test_the_slowest_part_decides(devices, cores, wal, limit, rate):
    machine = Machine(cores=cores, wal_mb_per_s=wal, usd_per_hour=3.6)
    (found,) = sizes(speeds_of(CHECK)[:1], writing_of(WRITE), [devices], machine)
    assert (found.limit, found.rows_per_s) == (limit, rate)
    assert found.hours[0] == pytest.approx(1e6 / rate / 3600)
    assert found.usd_per_million == pytest.approx(1e3 / rate)


def test_devices_add_up_until_the_server_is_the_limit():
    machine = Machine(cores=1, usd_per_hour=None)
    found = sizes(speeds_of(PIPELINE), writing_of(WRITE), [1, 100, 1_000], machine)
    assert [(one.limit, one.rows_per_s) for one in found] == [("device", 400), ("device", 40_000), ("UPDATE", 50_000)]
    assert found[0].usd_per_million is None


@pytest.fixture
def files(tmp_path):
    """The paths of the reports of a check and of writing."""
    for name, report in (("check", CHECK), ("write", WRITE)):
        (tmp_path / name).write_text(json.dumps(report))
    return [str(tmp_path / "check"), str(tmp_path / "write")]


def test_the_command_prints_two_parts_or_an_object(vecfill, files):
    ended = vecfill("bench", "size", *files, "--devices", "1,2", "--cores", "8", "--usd-per-hour", "3.6")
    assert ended.code == 0, ended.err
    measured, derived = ended.out.split("## Derived")
    assert "| small, bfloat16 | 20 | 100,000 | 12,500 |" in measured
    assert "50,000 rows/s of 384 dimensions, with 2,000 bytes of WAL a row" in measured
    assert "| small, bfloat16 | 20 | 1 | 50,000 | UPDATE | 0.0056 | 0.056 | 0.56 | 5.6 | 0.02 |" in derived
    assert "| small, bfloat16 | 512 | 2 | 6,000 | tokenizer | 0.046 | 0.46 | 4.6 | 46 | 0.33 |" in derived
    told = vecfill("bench", "size", *files, "--devices", "4", "--json").json
    assert set(told) == {"measured", "assumed", "derived", "table_rows"}
    assert [one["devices"] for one in told["derived"]] == [4, 4]


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        ("{}", (), "the report of speeds lacks 'contenders'"),
        ("[1]", (), "holds no JSON object"),
        ("no", (), "is no JSON"),
        ('{"speed": null, "tokens": null}', (), "the report holds no speed"),
        (json.dumps(CHECK), ("--devices", "0"), "--devices is '0': give whole numbers above 0"),
        (json.dumps(CHECK), ("--devices", "a,"), "--devices is 'a,'"),
        (json.dumps(CHECK), ("--wal-mb-per-s", "0"), "0.0 is not in the range"),
    ],
)
def test_what_is_no_report_ends_with_2(vecfill, files, content, more, said):
    Path(files[0]).write_text(content)
    ended = vecfill("bench", "size", *files, *more)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_a_report_of_writing_must_be_one():
    with pytest.raises(ConfigError, match="none of `vecfill bench write --json`"):
        writing_of(PIPELINE)
