"""Memory that runs out in our own pass: batches shrink, the run goes on, and the next process knows. One copy."""

import json

import numpy as np
import pytest
from tests.encode.native.models import module, sentence, transformer
from tests.encode.test_stage import block

from vecfill.config.model import Model
from vecfill.encode.device import learned_batches
from vecfill.encode.device.learned_batches import LearnedBatches
from vecfill.encode.load import load_model
from vecfill.encode.remembered import Remembered
from vecfill.encode.row_encoder import RowEncoder
from vecfill.encode.stage import EncodeSpec
from vecfill.job import Worker

pytestmark = pytest.mark.slow

TEXTS = [f"nurse {row} " * (row % 5) for row in range(60)] + ["welder " * 60]
LONGEST = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    sentence(folder, transformer(tmp_path_factory.mktemp("bert"), "bert"), "mean", module("Normalize"))
    return folder


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """Sets how many tokens fit: a larger batch raises torch's own error where attention would need its memory."""
    import torch

    from vecfill.encode.native.attention import RunAttention

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    attend, room = RunAttention.__call__, [10**9]

    def needs_memory(self, projections, texts, bias):
        if len(projections) > room[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return attend(self, projections, texts, bias)

    monkeypatch.setattr(RunAttention, "__call__", needs_memory)
    return room


def most_tokens():
    from vecfill.encode.device.forward import CPU_BATCH_TOKENS

    return CPU_BATCH_TOKENS[-1]


def rows_of(folder):
    return RowEncoder(load_model(Model(name=str(folder), device="cpu", dtype="float32")))


def remembered(tmp_path):
    [file] = (tmp_path / "vecfill" / "batches").iterdir()
    return json.loads(file.read_text())


def test_batches_are_halved_and_the_next_process_starts_with_those_that_fit(folder, memory, tmp_path, caplog):
    rows = rows_of(folder)
    wanted = rows.encode(TEXTS).vectors
    memory[0] = 100
    found = rows.encode(TEXTS)
    assert not found.errors
    assert np.abs(found.vectors - wanted).max() <= 1e-5
    assert rows.max_batch_tokens == remembered(tmp_path)["limit"] == 64
    said = [
        line.split()[-2] for line in caplog.messages if line.startswith("out of memory: continuing with batches of")
    ]
    assert said == ["1024", "512", "256", "128", "64"]  # from the largest batch of a CPU on
    caplog.clear()
    again = rows_of(folder)
    assert again.max_batch_tokens == 64
    assert not again.encode(TEXTS).errors
    assert "out of memory" not in caplog.text


def test_a_text_that_exceeds_the_memory_alone_is_set_aside(folder, memory):
    rows = rows_of(folder)
    wanted = rows.encode(TEXTS).vectors
    memory[0] = LONGEST - 1
    found = rows.encode(TEXTS)
    assert list(found.errors) == [len(TEXTS) - 1]
    assert found.errors[len(TEXTS) - 1].error_class == "resource"
    assert np.abs(found.vectors - wanted)[:-1].max() <= 1e-5


def test_what_was_learned_holds_for_a_week(folder, memory, monkeypatch):
    rows = rows_of(folder)
    memory[0] = 100
    rows.encode(TEXTS)
    now = learned_batches.time.time()
    for days, limit in ((6, 64), (8, most_tokens())):
        monkeypatch.setattr(learned_batches.time, "time", lambda days=days: now + days * 24 * 3600)
        assert rows_of(folder).max_batch_tokens == limit


@pytest.mark.usefixtures("memory")
def test_the_best_batch_size_outlives_a_process_on_a_gpu_alone(folder, monkeypatch):
    """On a CPU one that was found beside other work would slow the runs of a week."""
    for keeps_best, best in ((True, 1_024), (False, None)):
        kept = Remembered("batches", {"keeps_best": keeps_best})
        known = LearnedBatches(kept, keeps_best=keeps_best)
        known.found(1_024)
        known.lower(4_096)
        after = LearnedBatches(kept, keeps_best=keeps_best)
        assert (known.best, after.best, after.limit) == (1_024, best, 4_096)
    encoder = rows_of(folder).encoder
    while encoder.forward._search.searching:
        encoder.encode(["welder " * 60] * 200, learned_batches.MAX_BATCH_TOKENS)
    assert rows_of(folder).encoder.forward._search.searching
    monkeypatch.setattr(LearnedBatches, "of", lambda *_, **__: known)
    search = rows_of(folder).encoder.forward._search
    assert (search.searching, search.next()) == (False, 1_024)


@pytest.mark.parametrize("broken", [{"limit": "many"}, {"limit": -3, "best": 7}, {"learned_at": None}])
def test_what_cannot_be_used_is_learned_anew(folder, memory, tmp_path, broken):
    rows = rows_of(folder)
    memory[0] = 100
    rows.encode(TEXTS)
    [file] = (tmp_path / "vecfill" / "batches").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | broken))
    rows = rows_of(folder)
    assert rows.max_batch_tokens == most_tokens()
    assert rows.encoder.forward._search.searching


@pytest.mark.usefixtures("memory")
def test_the_vectors_of_a_block_lie_where_the_device_s_copy_put_them(folder, monkeypatch):
    """On a GPU that copy is the only one on the host; on a CPU there is none."""
    from vecfill.encode.device.device_feed import Feed

    copied, to_host = [], Feed.to_host
    monkeypatch.setattr(Feed, "to_host", lambda *given: copied.append(to_host(*given)) or copied[-1])
    model = Model(name=str(folder), device="cpu", dtype="float32")
    encode = EncodeSpec(model=model, dim=24, arity=1, column="jobs.embedding").stage(Worker())
    encode.warm()
    copied.clear()
    found = encode(block([f"nurse {row}" for row in range(50)]))
    [column] = found["embedding"].chunks
    assert column.values.buffers()[1].address == copied[0].ctypes.data
    assert len(copied) == 1
