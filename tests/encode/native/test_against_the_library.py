"""Our pass against ``SentenceTransformer.encode``: every family, pooling, and kind of file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.encode.native.models import FAMILIES, LIMIT, module, sentence, settings, transformer

from vecfill.config.model import Model
from vecfill.encode import local_encoder as choice
from vecfill.encode.local_encoder import local_encoder
from vecfill.encode.native import proof as proofs
from vecfill.encode.native.architecture import ACTIVATIONS
from vecfill.encode.native.module_chain import DENSE_ACTIVATIONS

pytestmark = pytest.mark.slow

TEXTS = [
    *("Staff engineer in Zürich", "", " ", "a", "数据 工程", "<pad> a <pad><mask>b </s>", "вот? (x)"),
    *("nurse " * 300, "welder of data " * 11),
    *(f"engineer {row} " * (row % 7) for row in range(30)),
]
POOLINGS = ("mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens")


@pytest.fixture(scope="module", params=FAMILIES)
def backbone(request, tmp_path_factory):
    return transformer(tmp_path_factory.mktemp("backbone"), request.param)


def ours(folder, **values):
    from vecfill.encode.native.native_encoder import NativeEncoder

    encoder = local_encoder(model(folder, **values))
    assert isinstance(encoder, NativeEncoder)
    return encoder


def model(folder, **values):
    return Model(name=str(folder), device="cpu", **{"dtype": "float32", **values})


def one_text_after_the_other(folder, **values):
    """The strategy of a GPU: texts in their own order, and an attention that knows where each begins and ends."""
    from vecfill.encode.device.compute_device import device_kind
    from vecfill.encode.native.native_encoder import NativeEncoder

    one = model(folder, **values)
    chain, files = choice._readable(one)
    proof = proofs.ProofStore(one, device_kind("cpu")).read()
    return NativeEncoder(one, chain, files, replace(proof, attention="texts"))


def assert_close(ours, theirs):
    """Within 1e-5, or the share of it of a sum that is greater than one: from 128 on, floats are 1.5e-5 apart."""
    assert (np.abs(ours - theirs) <= 1e-5 * np.maximum(1, np.abs(theirs))).all()


def compared(net, folder, prompt="", **values):
    """Our encoder of the folder, in batches of two sizes, against the library's; returns the encoder."""
    encoder = ours(folder, **values)
    net.max_seq_length = values.get("max_tokens", net.max_seq_length)
    wanted = net.encode(TEXTS, prompt=prompt, truncate_dim=values.get("truncate_dim"), show_progress_bar=False)
    for most in (65_536, 100):
        found = encoder.encode(TEXTS, most)
        assert_close(found.vectors, wanted)
        unsorted = one_text_after_the_other(folder, **values).encode(TEXTS, most)
        assert_close(unsorted.vectors, wanted)
    assert found.n_tokens.tolist() == [len(net.tokenizer(prompt + text)["input_ids"]) for text in TEXTS]
    assert (found.truncated == (found.n_tokens > encoder.max_tokens)).all()
    assert found.truncated.any()
    assert (found.vectors.flags.c_contiguous, found.vectors.dtype) == (True, np.float32)
    return encoder


def test_every_pooling_of_every_family(backbone, tmp_path):
    compared(sentence(tmp_path, backbone, POOLINGS), tmp_path)


def test_everything_at_once(backbone, tmp_path):
    prompts = {"prompts": {"p": "welder ", "query": "nurse: "}}
    net = sentence(tmp_path, backbone, "mean", module("Dense", 24, 16), module("Normalize"), **prompts)
    encoder = compared(net, tmp_path, "welder ", prompt_name="p", truncate_dim=9, max_tokens=12)
    assert (encoder.dim, encoder.max_tokens, encoder.device, encoder.dtype) == (9, 12, "cpu", "float32")
    same = encoder.encode(["a nurse"], 9).vectors[0]
    np.testing.assert_array_equal(encoder.encode_query("a nurse"), same)
    net.max_seq_length = LIMIT["bert"]
    wanted = net.encode_query("a nurse", show_progress_bar=False)
    assert np.abs(ours(tmp_path).encode_query("a nurse") - wanted).max() <= 1e-5


@pytest.mark.parametrize("activation", sorted(DENSE_ACTIVATIONS))
def test_every_activation_of_dense(bert, tmp_path, activation):
    import torch

    dense = module("Dense", 24, 7, bias=activation != "ReLU", activation_function=getattr(torch.nn, activation)())
    compared(sentence(tmp_path, bert, "mean", dense), tmp_path)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS - {"gelu"}))
def test_every_activation_of_the_transformer(tmp_path, activation):
    net = sentence(tmp_path / "st", transformer(tmp_path / "bert", "bert", hidden_act=activation), "cls")
    compared(net, tmp_path / "st")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return transformer(tmp_path_factory.mktemp("bert"), "bert")


def rewritten(folder, write):
    """Moves the weights to other files, with the names that a model with a head has; returns the library's net."""
    from safetensors.torch import load_file
    from sentence_transformers import SentenceTransformer

    whole = folder / "model.safetensors"
    weights = load_file(whole)
    whole.unlink()
    write(weights)
    return SentenceTransformer(str(folder), device="cpu")


def test_shards_without_a_pooler(bert, tmp_path):
    from safetensors.torch import save_file

    def write(weights):
        kept = sorted(name for name in weights if not name.startswith("pooler."))
        shards = {"a.safetensors": kept[::2], "b.safetensors": kept[1::2]}
        for file, names in shards.items():
            save_file({name: weights[name] for name in names}, tmp_path / file, {"format": "pt"})
        places = {name: file for file, names in shards.items() for name in names}
        settings(tmp_path / "model.safetensors.index.json", metadata={}, weight_map=places)

    sentence(tmp_path, bert, "mean")
    compared(rewritten(tmp_path, write), tmp_path)


@pytest.mark.parametrize("zipped", [True, False], ids=["torch 1.6", "before"])
def test_an_old_file_of_a_model_with_a_head(bert, tmp_path, zipped):
    """With the names of TensorFlow's normalisations, in half precision, tied to a decoder."""
    import torch

    def write(weights):
        old = {f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma"): one for name, one in weights.items()}
        old = {name.replace("LayerNorm.bias", "LayerNorm.beta"): one.half() for name, one in old.items()}
        old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"]
        torch.save(old, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)

    sentence(tmp_path, bert, "mean")
    compared(rewritten(tmp_path, write), tmp_path)


def test_a_plain_transformer_gets_the_library_s_pooling(bert):
    from sentence_transformers import SentenceTransformer

    compared(SentenceTransformer(str(bert), device="cpu"), bert)


def test_token_types_of_the_text(bert, tmp_path):
    """A tokenizer whose template gives the text the type 1."""
    sentence(tmp_path, bert, "mean")
    template = json.loads((tmp_path / "tokenizer.json").read_text())["post_processor"]
    template["single"][1]["Sequence"]["type_id"] = 1
    settings(tmp_path / "tokenizer.json", post_processor=template)
    from sentence_transformers import SentenceTransformer

    net = SentenceTransformer(str(tmp_path), device="cpu")
    assert net.preprocess(["a b"])["token_type_ids"].any()
    compared(net, tmp_path)


def test_half_precision_stays_close(backbone, tmp_path):
    net = sentence(tmp_path, backbone, "mean", module("Normalize"))
    exact = net.encode(TEXTS, show_progress_bar=False)
    for dtype in ("bfloat16", "float16") if "token_type_ids" in net.preprocess(["a"]) else ("bfloat16",):
        encoder = ours(tmp_path, dtype=dtype)
        assert encoder.dtype == dtype
        assert (encoder.encode(TEXTS, 65_536).vectors * exact).sum(axis=1).min() >= 0.999
