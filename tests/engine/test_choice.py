"""Which engine a run takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfill.config.engine import EngineOptions
from vecfill.config.model import Model
from vecfill.encode.stage import ROWS_PER_S, EncodeSpec
from vecfill.engine.choice import RAY_START_S, choose, gpu_count

AUTO = EngineOptions()
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def spec(model: str, device: str = "auto") -> EncodeSpec:
    return EncodeSpec(model=Model(name=model, device=device), dim=None, arity=1, column="docs.embedding")


@pytest.mark.parametrize(
    ("options", "rows", "model", "hardware", "engine"),
    [
        (AUTO, 0, MINILM, ("auto", 0), "inline"),
        (AUTO, 1_000, MINILM, ("auto", 0), "inline"),
        (AUTO, 17_269, MINILM, ("auto", 0), "inline"),
        (AUTO, 100_000, MINILM, ("auto", 0), "ray"),
        (AUTO, 17_269, MINILM, ("auto", 1), "inline"),
        (AUTO, 1_000_000, MINILM, ("auto", 1), "ray"),
        (AUTO, 100_000, MINILM, ("cpu", 1), "ray"),
        (AUTO, 1, MINILM, ("auto", 2), "ray"),
        (AUTO, 1, MINILM, ("cpu", 2), "inline"),
        (AUTO, 1_000_000, "hash:384", ("auto", 0), "inline"),
        (AUTO, 10_000_000, "hash:384", ("auto", 0), "ray"),
        (AUTO, 10_000_000, "openai:text-embedding-3-small", ("auto", 8), "inline"),
        (EngineOptions(ray_address="auto"), 1, "openai:text-embedding-3-small", ("auto", 0), "ray"),
        (EngineOptions(ray_address="auto"), 1, MINILM, ("auto", 0), "ray"),
        (EngineOptions(engine="inline", ray_address="auto"), 10**9, MINILM, ("auto", 8), "inline"),
        (EngineOptions(engine="ray"), 1, "hash:8", ("auto", 0), "ray"),
    ],
)
def test_choice(options, rows, model, hardware, engine):
    device, gpus = hardware
    assert choose(options, rows=rows, encode=spec(model, device), gpus=gpus)[0] == engine


@given(st.integers(0, 10**9))
def test_ray_starts_where_it_costs_less_than_a_tenth_of_the_work(rows):
    engine, reason = choose(AUTO, rows=rows, encode=spec(MINILM), gpus=0)
    assert (engine == "ray") == (rows / ROWS_PER_S["cpu"] > 10 * RAY_START_S)
    assert f"{rows:,} row" in reason


@pytest.mark.parametrize(
    ("visible", "gpus"), [("", 0), ("-1", 0), ("NoDevFiles", 0), ("0", 1), ("0,1, 3", 3), ("GPU-8f1e,MIG-12", 2)]
)
def test_gpus_that_this_process_may_use(visible, gpus):
    assert gpu_count({"CUDA_VISIBLE_DEVICES": visible}) == gpus
