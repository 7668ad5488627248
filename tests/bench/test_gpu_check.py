"""``scripts/gpu-check`` on a CPU: the same parts with tiny models."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading

import pytest

from vecfill.bench.gpu import check, correctness, speed
from vecfill.bench.gpu.__main__ import main
from vecfill.bench.gpu.budget import Budget
from vecfill.bench.gpu.shapes import SMALL, written
from vecfill.config.model import Model
from vecfill.postgres import embedded

pytestmark = [pytest.mark.slow, pytest.mark.models]

WITHOUT_A_SERVER = ["card", "correctness", "memory", "speed", "tokens"]


def checked(tmp_path, *parts):
    code = main(["--tiny", "--report", str(tmp_path), *(f"--only={part}" for part in parts)])
    return code, json.loads((tmp_path / "gpu-check.json").read_text()), (tmp_path / "gpu-check.html").read_text()


def test_every_part_that_needs_no_server(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vecfill.bench.gpu.card._SECONDS", 0.01)
    monkeypatch.setattr("vecfill.bench.gpu.tokens.MEASURED_S", 0.01)
    monkeypatch.setattr("vecfill.bench.matrix_rate.SHAPE_S", 0.01)
    monkeypatch.setattr("vecfill.bench.gpu.speed.MEASURED_S", 0.01)
    code, report, page = checked(tmp_path, *WITHOUT_A_SERVER)
    assert (code, report["right"], report["errors"]) == (0, True, {})
    lines = {(line["model"], line["strategy"]) for line in report["correctness"]}
    assert {model for model, _ in lines} == {"bert", "roberta"}
    strategies = {"chosen: native", "two encoders at once", "native runs", "native texts", "library"}
    assert {strategy for _, strategy in lines} == strategies
    assert all(line["cosine_least"] > 0.99999 for line in report["correctness"])
    assert {line["tokens"] for line in report["speed"]} == {8, 16}
    assert all(line["encode_tokens_per_s"] > 0 < line["library"]["sdpa"] for line in report["speed"])
    assert all(rate > 0 for rate in report["card"]["matrix_flops"].values())
    assert set(report["tokens"]) == {"short texts", "long texts", "short texts, fast", "long texts, fast"}
    assert "memory that runs out: only a GPU's can be limited" in report["left_out"]
    assert "end_to_end: not asked for" in report["left_out"]
    assert "gpu-check: right on cpu" in page
    assert capsys.readouterr().out.splitlines()[-1] == "right"


def test_end_to_end_fills_a_table(tmp_path, database, monkeypatch):
    monkeypatch.setattr(embedded, "start", lambda **_: database)
    monkeypatch.setattr(embedded, "stop", lambda _: True)
    code, report, page = checked(tmp_path, "end_to_end")
    assert (code, report["end_to_end"]["result"]["updated"]) == (0, 500)
    assert "500 rows on inline" in page


def test_wrong_vectors_and_a_part_that_fails_are_said(tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level(logging.CRITICAL)
    line = {"model": "bert", "strategy": "varlen", "dtype": "bfloat16", "cosine_least": 0.7, "right": False}
    monkeypatch.setattr(correctness, "correctness", lambda *_: [line])
    monkeypatch.setitem(check.PARTS, "card", lambda *_: 1 / 0)
    code, report, page = checked(tmp_path, "card", "correctness")
    assert (code, report["right"]) == (1, False)
    assert report["errors"] == {"card": "ZeroDivisionError: division by zero"}
    assert 'class="wrong"' in page
    assert capsys.readouterr().out.splitlines()[-1].startswith("WRONG")


def test_a_strategy_that_a_model_does_not_take_is_not_called_wrong(tmp_path):
    [mpnet] = [shape for shape in SMALL if shape.name == "mpnet"]
    model = Model(name=str(written(mpnet, tmp_path, "cpu")), device="cpu", dtype="bfloat16", encoder="library")
    assert [name for name, _ in correctness._library(model)] == ["library"]


def test_a_model_that_cannot_be_loaded_costs_no_other_s_lines(caplog):
    caplog.set_level(logging.CRITICAL)
    [line] = correctness._lines("some", "/no/such/folder", ["a"], "cpu")
    assert (line["model"], line["right"]) == ("some", False)
    assert line["error"].startswith("ConfigError: model /no/such/folder")


def test_a_shape_that_cannot_be_measured_costs_no_other_s_figures(monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    small, large = SMALL[:2]

    def lines(shape, *_):
        yield {"model": shape.name}
        if shape is large:
            raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(speed, "_lines", lines)
    budget = Budget(60.0)
    found = speed.speed((large, small), speed.Sizes(), tmp_path, "cpu", budget)
    assert [line["model"] for line in found] == [large.name, small.name]
    assert budget.left_out == [f"speed of {large.name}: RuntimeError: CUDA out of memory"]


def test_a_batch_of_the_library_that_does_not_fit_leaves_the_smaller_ones_figures():
    class Net:
        def encode(self, _, batch_size, **__):
            if batch_size > 256:
                raise RuntimeError("CUDA out of memory")

    assert speed._best_batch(Net(), ["a"], 0.01) < float("inf")


def test_what_the_time_does_not_allow_is_left_out():
    budget = Budget(0.0)
    assert not budget.allows(0.5, "speed of bert")
    assert budget.left_out == ["speed of bert: no time left"]


def test_another_user_reaches_the_folder(monkeypatch):
    """As root, the embedded server runs as a user of its own."""
    modes = []
    monkeypatch.setitem(check.PARTS, "card", lambda _, folder, __: modes.append(folder.stat().st_mode & 0o777))
    check.check(check.Plan.tiny(60.0), ["card"])
    assert modes == [0o755]


def test_a_part_that_hangs_costs_no_other_part_s_figures(monkeypatch, tmp_path):
    given_up, reports = threading.Event(), []

    def late(report):
        reports.append(report)
        given_up.set()

    def hangs(*_):
        given_up.wait()
        return []

    monkeypatch.setattr(check, "_LATE", 1e-9)
    monkeypatch.setitem(check.PARTS, "card", lambda *_: {"name": "a card"})
    monkeypatch.setitem(check.PARTS, "correctness", hangs)
    check.check(check.Plan.tiny(60.0), ["card", "correctness"], late)
    [found] = reports
    assert found["right"]
    assert [line for line in found["left_out"] if "not ended within" in line]


def test_it_needs_neither_psycopg_nor_ray_nor_the_command_line():
    missing = dict.fromkeys(("psycopg", "ray", "tenacity", "click", "rich", "pydantic_settings"))
    script = f"import sys; sys.modules.update({missing}); import vecfill.bench.gpu.__main__ as check; "
    script += "from vecfill.bench.gpu import card, correctness, end_to_end, speed, tokens; "
    script += "import vecfill.bench.render, vecfill.encode.row_encoder, vecfill.encode.local_encoder"
    subprocess.run([sys.executable, "-c", script], check=True)
