import gc
import logging
import pickle
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest

from vecfill.bisection import SharedFaultError
from vecfill.blocks import encoded_schema, text_schema
from vecfill.config.model import Model
from vecfill.encode import EncodeSpec, EncodeStage, Encoding
from vecfill.encode.block_progress import no_progress
from vecfill.encode.device.learned_batches import MAX_BATCH_TOKENS
from vecfill.encode.hash_encoder import HashEncoder
from vecfill.encode.load import load_model
from vecfill.encode.row_encoder import RowEncoder, is_out_of_memory
from vecfill.errors import ConfigError, EncodeError, MixedModelsError
from vecfill.job import Worker

DIM = 8


class OutOfMemoryError(RuntimeError):
    """Named as torch's own, so that none has to be provoked on a device."""


class AcceleratorError(RuntimeError):
    """As torch's own."""


class Flawed(HashEncoder):
    """The stand-in, but for the texts that begin with a fault's name, and with memory for so many texts only."""

    def __init__(self, dim, memory=10**9, fault=OutOfMemoryError):
        super().__init__(dim)
        self.memory = memory
        self.fault = fault
        self.batches = []

    def encode(self, texts, max_batch_tokens=MAX_BATCH_TOKENS, advance=no_progress):
        self.batches.append(max_batch_tokens)
        if "unreadable" in texts:
            raise TypeError("TextEncodeInput must be a string " + "x" * 1000)
        if max_batch_tokens > self.memory or "endless" in texts:
            raise self.fault("CUDA out of memory. Tried to allocate 2.00 GiB")
        if "poison" in texts:
            raise AcceleratorError("CUDA error: device-side assert triggered")
        encoding = super().encode(texts)
        for row, text in enumerate(texts):
            if text.startswith("nan"):
                encoding.vectors[row, 3] = np.nan
            if text.startswith("inf"):
                encoding.vectors[row] = np.inf
        lengths = np.fromiter(map(len, texts), np.int32, len(texts))
        return Encoding.of(encoding.vectors, n_tokens=lengths, truncated=lengths > 9)


class Loaded(EncodeStage):
    """A stage whose model is made by ``load``."""

    load = staticmethod(load_model)

    def _load(self):
        return self.load(self.spec.model, self._worker.threads)


def stage(encoder=None, load=None, **values):
    """The stage; with an encoder that is there already, or one that ``load`` makes."""
    name = f"hash:{DIM}" if encoder is None and load is None else "given"
    spec = EncodeSpec(**{"model": Model(name=name), "dim": DIM, "arity": 1, "column": "jobs.embedding", **values})
    made = Loaded(spec, Worker())
    made.load = load or (load_model if encoder is None else lambda *_, **__: encoder)
    return made


def block(texts, arity=1):
    n = len(texts)
    columns = [pa.array([b"%d/%d" % (key, row) for row in range(n)], pa.binary()) for key in range(arity)]
    columns += [
        pa.array(texts, pa.large_string()),
        pa.array([sha256(text.encode()).digest()[:16] for text in texts], pa.binary(16)),
        pa.array(["missing"] * n, pa.string()),
        *[pa.nulls(n, pa.string())] * 2,
        pa.array(np.arange(n), pa.float32()),
    ]
    return pa.Table.from_arrays(columns, schema=text_schema(arity))


def matrix(table):
    return np.array(table["embedding"].combine_chunks().flatten()).reshape(-1, DIM)


def texts_of(n):
    return [f"text {row}" for row in range(n)]


@pytest.mark.parametrize("arity", [1, 3])
def test_a_block_gives_a_block_of_the_same_rows(arity):
    table = block(texts_of(50), arity)
    result = stage(arity=arity)(table)
    assert result.schema.equals(encoded_schema(arity, DIM))
    result.validate(full=True)
    for name in table.column_names:
        if name != "text":
            assert result[name].equals(table[name])
    assert np.array_equal(matrix(result), HashEncoder(DIM).encode(texts_of(50)).vectors)
    assert result["error"].null_count == result["error_class"].null_count == 50
    assert result["n_tokens"].null_count == 50
    assert (np.array(result["encode_s"]) > 0).all()
    assert len(set(result["encode_s"].to_pylist())) == 1


def test_blocks_may_be_chunked_sliced_and_read_only():
    whole = block(texts_of(60))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, whole.schema) as stream:
        stream.write_table(whole, max_chunksize=7)
    chunked = pa.ipc.open_stream(sink.getvalue()).read_all().slice(5, 31)
    result = stage()(chunked)
    assert np.array_equal(matrix(result), HashEncoder(DIM).encode(texts_of(60)[5:36]).vectors)
    assert result["key0"].to_pylist() == whole["key0"].to_pylist()[5:36]


def test_no_rows_give_no_rows():
    assert stage()(block([])).equals(encoded_schema(1, DIM).empty_table())
    assert stage(dim=None)(block([])).equals(encoded_schema(1, DIM).empty_table())


def test_counts_of_tokens_pass_through():
    result = stage(Flawed(DIM))(block(["short", "much longer"]))
    assert result["n_tokens"].to_pylist() == [5, 11]
    assert result["truncated"].to_pylist() == [False, True]


@pytest.mark.parametrize("bad", ["unreadable", "nan here", "inf here"])
def test_a_text_that_fails_takes_no_other_along(bad):
    texts = texts_of(100)
    texts[37] = texts[61] = bad
    result = stage(Flawed(DIM))(block(texts))
    result.validate(full=True)
    failed = [row for row, error in enumerate(result["error"].to_pylist()) if error is not None]
    assert failed == [37, 61]
    assert result["embedding"].combine_chunks().is_null().to_pylist() == [row in failed for row in range(100)]
    assert result["error_class"].to_pylist()[37] == "row"
    assert result["n_tokens"].to_pylist()[37] is None
    rest = [text for text in texts if text != bad]
    assert np.array_equal(matrix(result), HashEncoder(DIM).encode(rest).vectors)


def test_messages_say_what_failed_and_stay_short():
    errors = stage(Flawed(DIM))(block(["unreadable", "nan", "inf", "fine"]))["error"].to_pylist()
    assert errors[0].startswith("TypeError: TextEncodeInput must be a string")
    assert len(errors[0]) == 300
    assert errors[1:] == ["1 of 8 components are NaN or infinite", "8 of 8 components are NaN or infinite", None]


def test_a_small_block_of_nan_is_set_aside_and_a_large_one_stops_the_run():
    few = stage(Flawed(DIM))(block(["nan"] * 19))
    assert few["embedding"].null_count == 19
    with pytest.raises(EncodeError, match=r"all 20 vectors of a block are NaN or infinite.*dtype float32"):
        stage(Flawed(DIM))(block([f"nan {row}" for row in range(20)]))


def test_a_fault_of_all_texts_stops_the_run():
    with pytest.raises(SharedFaultError, match="TypeError"):
        stage(Flawed(DIM), dedupe=False)(block(["unreadable"] * 500))


def test_a_lost_device_is_no_text_s_fault():
    encoder = Flawed(DIM)
    with pytest.raises(AcceleratorError):
        stage(encoder)(block([*texts_of(10), "poison"]))
    assert len(encoder.batches) == 1


@pytest.mark.parametrize("fault", [OutOfMemoryError, RuntimeError, MemoryError])
def test_out_of_memory_halves_the_batch_and_remembers(fault, caplog):
    encoder = Flawed(DIM, memory=10_000, fault=fault)
    encode = stage(encoder)
    result = encode(block(texts_of(30)))
    assert result["error"].null_count == 30
    assert encoder.batches == [65_536, 32_768, 16_384, 8_192]
    assert "out of memory: continuing with batches of at most 32768 tokens" in caplog.text
    encode(block(texts_of(40)))
    assert encoder.batches[4:] == [8_192]


def test_a_text_too_big_for_the_memory_is_set_aside_and_the_batch_recovers():
    encoder = Flawed(DIM)
    encode = stage(encoder)
    result = encode(block([*texts_of(9), "endless", *texts_of(9)]))
    assert [row for row, kind in enumerate(result["error_class"].to_pylist()) if kind == "resource"] == [9]
    assert result["error"].to_pylist()[9].startswith("OutOfMemoryError: CUDA out of memory")
    assert result["embedding"].null_count == 1
    encode(block(["another"]))
    assert encoder.batches[-1] == MAX_BATCH_TOKENS


def test_what_a_text_too_big_held_is_free_before_the_next_attempt():
    class Tensor:
        pass

    held = []

    class Full(HashEncoder):
        def encode(self, texts, max_batch_tokens=MAX_BATCH_TOKENS, advance=no_progress):
            assert [reference() for reference in held] == [None] * len(held)
            if "endless" in texts:
                tensor = Tensor()
                held.append(weakref.ref(tensor))
                raise OutOfMemoryError
            return super().encode(texts)

    gc.disable()
    try:
        found = RowEncoder(Full(DIM)).encode([*texts_of(3), "endless", *texts_of(3)])
    finally:
        gc.enable()
    assert list(found.errors) == [3]


def test_a_block_that_fitted_does_not_undo_what_another_learned():
    class Beside(Flawed):
        def encode(self, texts, max_batch_tokens=MAX_BATCH_TOKENS, advance=no_progress):
            if "first" in texts:
                rows.encode(["second"])  # as another thread would, in the middle of this block
            elif max_batch_tokens > 10_000:
                raise OutOfMemoryError
            return super().encode(texts)

    rows = RowEncoder(Beside(DIM))
    rows.encode(["first"])
    assert rows.max_batch_tokens == 8_192


def test_what_counts_as_out_of_memory():
    assert is_out_of_memory(AcceleratorError("CUDA error: out of memory"))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"))
    for message in ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "std::bad_alloc"):
        assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("a text about being out of memory"))


def test_a_wrong_dimension_is_found_before_a_text_is_encoded():
    encoder = Flawed(DIM)
    with pytest.raises(
        ConfigError, match=r"jobs\.embedding has 768 dimensions but model given gives 8: set --truncate-dim"
    ):
        stage(encoder, dim=768)(block(texts_of(3)))
    assert encoder.batches == []


def test_a_model_that_fails_to_load_is_tried_once():
    tries = []

    def load(*_, **__):
        tries.append(1)
        raise ConfigError("no such model")

    made = stage(load=load)
    for _ in range(3):
        with pytest.raises(ConfigError, match="no such model"):
            made(block(texts_of(2)))
    assert len(tries) == 1


def test_a_stop_leaves_a_model_that_loads_and_starts_no_second_load():
    loading, go_on = [], threading.Event()
    made = stage(load=lambda *_, **__: loading.append(1) or go_on.wait(60))
    made._worker = Worker(stopped=lambda: bool(loading))
    assert [made(block(texts_of(2))).num_rows for _ in range(2)] == [0, 0]
    assert len(loading) == 1
    go_on.set()


def sample(n, changed):
    vectors = HashEncoder(DIM).encode([text + "!" * (row < changed) for row, text in enumerate(texts_of(n))]).vectors
    return tuple((text, tuple(map(float, vector))) for text, vector in zip(texts_of(n), vectors, strict=True))


@pytest.mark.parametrize(("changed", "warns"), [(0, False), (3, False), (4, True), (16, True)])
def test_texts_that_changed_since_are_a_warning_at_most(changed, warns, caplog):
    caplog.set_level(logging.WARNING)
    stage(sample=sample(32, changed)).warm()
    assert ("sampled vectors of jobs.embedding agree" in caplog.text) is warns


def test_another_model_s_vectors_stop_the_run_before_a_block_is_encoded(caplog):
    foreign = sample(32, 20)
    with pytest.raises(MixedModelsError, match=r"12 of 32 sampled vectors .* median cosine .*--allow-mixed") as caught:
        stage(sample=foreign)(block(texts_of(2)))
    assert caught.value.exit_code == 2
    assert stage(sample=foreign, allow_mixed=True)(block(texts_of(2))).num_rows == 2
    assert "12 of 32" in caplog.text


def test_rounding_to_half_precision_agrees(caplog):
    rounded = tuple((text, tuple(map(float, np.float16(vector)))) for text, vector in sample(32, 0))
    stage(sample=rounded).warm()
    assert caplog.text == ""


def test_stored_vectors_that_cannot_be_compared_do_not_agree():
    vectors = [(1.0, 2.0), (float("nan"),) * DIM, (1e300, -1e300), (1.0, None)]
    with pytest.raises(MixedModelsError, match="0 of 4"):
        stage(sample=tuple((f"text {n}", vector) for n, vector in enumerate(vectors))).warm()


@pytest.mark.parametrize("vector", [(0.0,) * DIM, ()])
def test_zeros_and_empty_arrays_are_placeholders_and_accuse_no_model(vector, caplog):
    stage(sample=(*sample(4, 0), *((f"zero {n}", vector) for n in range(28)))).warm()
    assert "28 of 32 sampled vectors of jobs.embedding are placeholders" in caplog.text
    assert "agree" not in caplog.text


def test_vectors_that_are_all_alike_are_called_a_placeholder():
    with pytest.raises(MixedModelsError, match=r"all 4 sampled vectors of jobs\.embedding are equal: a placeholder"):
        stage(sample=tuple((f"text {n}", (0.125,) * DIM) for n in range(4))).warm()


def test_texts_without_a_vector_are_not_compared(caplog):
    """A static model gives zeros to a text of which it knows no token."""

    class Static(HashEncoder):
        def encode(self, texts, limit=0):
            return Encoding.of(np.zeros((len(texts), self.dim), np.float32))

    stage(Static(DIM), sample=sample(4, 0)).warm()
    assert "agree" not in caplog.text


def test_a_handful_of_vectors_accuses_no_model(caplog):
    """A single row that has a vector may just have been edited since: the run goes on, and says so."""
    stage(sample=(("text", (1.0,) * DIM),)).warm()
    assert "0 of 1 sampled vector of" in caplog.text


def test_the_model_loads_once_for_all_threads():
    loads = []

    def load(model, threads=None, **_):
        loads.append(threads)
        time.sleep(0.05)
        return HashEncoder(DIM)

    encode = stage(load=load)
    encode._worker.threads = 3
    assert loads == []
    threads = [threading.Thread(target=encode.warm) for _ in range(4)]
    for thread in threads:
        thread.start()
    encode(block(texts_of(2)))
    for thread in threads:
        thread.join()
    assert loads == [3]


def test_the_block_says_where_and_how_it_was_computed():
    result = stage()(block(texts_of(3)))
    assert set(result["encoder"].to_pylist()) == {"stand-in"}
    assert set(zip(result["device"].to_pylist(), result["dtype"].to_pylist(), strict=True)) == {("cpu", "float32")}


def test_each_distinct_text_is_computed_once():
    encoder = Flawed(DIM)
    encode = stage(encoder)
    first = encode(block(["a", "b", "a", "unreadable", "unreadable"]))
    assert first["reused"].to_pylist() == [False, False, True, False, True]
    assert [error is None for error in first["error"].to_pylist()] == [True, True, True, False, False]
    assert np.array_equal(matrix(first.slice(0, 3)), HashEncoder(DIM).encode(["a", "b", "a"]).vectors)
    again = encode(block(["b", "c", "unreadable"]))
    assert again["reused"].to_pylist() == [True, False, False]
    assert again["n_tokens"].to_pylist() == [1, 1, None]
    assert np.array_equal(matrix(again.slice(0, 2)), HashEncoder(DIM).encode(["b", "c"]).vectors)


def test_duplicates_are_computed_where_that_is_asked_for():
    result = stage(dedupe=False)(block(["a", "a"]))
    assert result["reused"].to_pylist() == [False, False]
    assert np.array_equal(matrix(result), HashEncoder(DIM).encode(["a", "a"]).vectors)


def test_seconds_of_calls_that_overlap_are_not_counted_twice():
    together = threading.Barrier(2)

    class Patient(HashEncoder):
        def encode(self, texts, max_batch_tokens=MAX_BATCH_TOKENS, advance=no_progress):
            together.wait()
            time.sleep(0.1)
            return super().encode(texts)

    encode = stage(Patient(DIM))
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(encode, [block(["a"]), block(["b"])]))
    total = sum(np.array(result["encode_s"]).sum() for result in results)
    assert 0.09 < total <= time.perf_counter() - started


def test_the_spec_pickles():
    spec = EncodeSpec(model=Model(name="hash:8"), dim=8, arity=2, sample=sample(3, 0), column="jobs.embedding")
    assert pickle.loads(pickle.dumps(spec)) == spec
