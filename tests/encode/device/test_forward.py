"""The library fed by us against ``SentenceTransformer.encode``, on small models of random weights of many kinds."""

import copy
import importlib
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.encode.words import SENTENCES, tokenizer

from vecfill.config.model import Model
from vecfill.encode.load import load_model
from vecfill.encode.tokens.declared_tokens import OWN, declared_tokens

pytestmark = pytest.mark.slow

WIDTH = 32
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
DECODER = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 64}
TEXTS = [*SENTENCES, "", "a", "?", "long " * 50, *(f"engineer number {row} " * (row % 7) for row in range(40))]
POOLINGS = ("mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens")
WITH_TYPES = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
WITHOUT = {"model_input_names": ["input_ids", "attention_mask"]}
LEFT = {"ends": ("", "</s>"), "padding_side": "left", **WITHOUT}

KINDS = {
    "bert": ("Bert", {**SIZES, "max_position_embeddings": 40}, WITH_TYPES),
    "roberta": ("Roberta", {**SIZES, "max_position_embeddings": 42, "pad_token_id": 0}, WITHOUT),
    "xlm-roberta": ("XLMRoberta", {**SIZES, "max_position_embeddings": 42, "pad_token_id": 0}, WITHOUT),
    "mpnet": ("MPNet", {**SIZES, "max_position_embeddings": 42, "pad_token_id": 0}, WITHOUT),
    "modernbert": ("ModernBert", {**SIZES, "max_position_embeddings": 64, "local_attention": 8}, WITHOUT),
    "qwen3": ("Qwen3", {**DECODER, "head_dim": 8}, LEFT),
    "llama": ("Llama", DECODER, LEFT),
    "mistral, sliding": ("Mistral", {**DECODER, "sliding_window": 6}, LEFT),
    "llama, padded right": ("Llama", DECODER, {**LEFT, "padding_side": "right"}),
}


@pytest.fixture(scope="module", params=KINDS)
def backbone(request, tmp_path_factory):
    """A transformer of random weights with a trained tokenizer of 40 tokens at most, as a module of the library."""
    import torch
    import transformers

    kind, sizes, tokens = KINDS[request.param]
    folder = tmp_path_factory.mktemp("backbone")
    words = tokenizer(model_max_length=40, **tokens)
    torch.manual_seed(7)
    specials = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    config = getattr(transformers, f"{kind}Config")(**{"vocab_size": len(words), **specials, **sizes})
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return module("Transformer", str(folder))


def module(kind, *arguments, **values):
    modules = importlib.import_module("sentence_transformers.sentence_transformer.modules")
    return getattr(modules, kind)(*arguments, **values)


def library(*arguments, **values):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(*arguments, device="cpu", **values)


@pytest.fixture(scope="module")
def mean(backbone, tmp_path_factory):
    """A model that no test changes: its folder, and our encoder of it, compared with the library's."""
    folder = tmp_path_factory.mktemp("mean")
    return folder, compared(saved(folder, backbone, module("Pooling", WIDTH, "mean")), folder)


def saved(folder, backbone, *modules, **arguments):
    """A model of the library, as it is also in the folder; a copy, since reading the files takes ten times as long."""
    net = library(modules=[copy.deepcopy(backbone), *modules], **arguments)
    net.save(str(folder), create_model_card=False)
    return net


def compared(theirs, folder, texts=TEXTS, **values):
    """Our encoder of the folder, in batches of two sizes, against the library's; returns the encoder."""
    encoder = load_model(Model(name=str(folder), device="cpu", dtype="float32", encoder="library", **values))
    if "max_tokens" in values:
        theirs.max_seq_length = values["max_tokens"]
    same = {name: values[name] for name in ("prompt", "prompt_name", "truncate_dim") if name in values}
    wanted = theirs.encode(texts, show_progress_bar=False, **same)
    for most in (65_536, 100):
        assert np.abs(encoder.encode(texts, most).vectors - wanted).max() <= 1e-5
    return encoder


def test_every_pooling_of_every_kind(backbone, tmp_path):
    """One behind the other in one vector, since a model for each would take ten times as long."""
    encoder = compared(saved(tmp_path, backbone, module("Pooling", WIDTH, POOLINGS)), tmp_path)
    assert encoder.dim == len(POOLINGS) * WIDTH
    assert encoder.counts_tokens
    encoding = encoder.encode(TEXTS, 65_536)
    assert (encoding.truncated == (encoding.n_tokens > 40)).all()
    assert encoding.truncated.any()


@pytest.mark.parametrize("backbone", ["bert", "qwen3"], indirect=True)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_pooling_alone(backbone, tmp_path, pooling):
    assert compared(saved(tmp_path, backbone, module("Pooling", WIDTH, pooling)), tmp_path).counts_tokens


@pytest.mark.parametrize("pooling", ["mean", "lasttoken"])
def test_a_prompt_that_is_left_out_of_the_pooling(backbone, tmp_path, pooling):
    prompts = {"prompts": {"query": "data nurse: "}, "default_prompt_name": "query"}
    net = saved(tmp_path, backbone, module("Pooling", WIDTH, pooling, include_prompt=False), **prompts)
    texts = [text for text in TEXTS if text.strip()]
    assert compared(net, tmp_path, texts).counts_tokens
    assert compared(net, tmp_path, texts, prompt="night shift ").counts_tokens


def test_the_files_alone_give_the_same_limit_and_tokens(mean):
    for values in ({}, {"max_tokens": 12, "prompt": "data "}):
        model = Model(name=str(mean[0]), device="cpu", dtype="float32", **values)
        encoder, declared = load_model(model), declared_tokens(model)
        assert (declared.limit, declared.tokenizer) == (encoder.max_tokens, OWN)
        assert declared.count(TEXTS).tolist() == encoder.encode(TEXTS, 65_536).n_tokens.tolist()


def test_everything_at_once(backbone, tmp_path):
    net = saved(
        tmp_path,
        backbone,
        module("Pooling", WIDTH, "mean"),
        module("Dense", WIDTH, 24),
        module("Normalize"),
        prompts={"p": "welder "},
    )
    encoder = compared(net, tmp_path, prompt_name="p", truncate_dim=9, max_tokens=12)
    assert (encoder.dim, encoder.max_tokens) == (9, 12)
    assert encoder.counts_tokens


def test_bfloat16_stays_close(backbone, tmp_path):
    net = saved(tmp_path, backbone, module("Pooling", WIDTH, "mean"), module("Normalize"))
    exact = net.encode(TEXTS, show_progress_bar=False)
    rough = load_model(Model(name=str(tmp_path), device="cpu", dtype="bfloat16", encoder="library"))
    assert (exact * rough.encode(TEXTS, 65_536).vectors).sum(axis=1).min() >= 0.999


def test_texts_that_only_the_library_can_prepare_go_through_it(backbone, tmp_path, caplog):
    """Padding to multiples of eight is set in the model's own file."""
    net = library(modules=[copy.deepcopy(backbone), module("Pooling", WIDTH, "mean")])
    net[0].processing_kwargs = {"text": {"pad_to_multiple_of": 8}}
    net.save(str(tmp_path), create_model_card=False)
    caplog.set_level(logging.INFO, "vecfill")
    encoder = compared(library(str(tmp_path)), tmp_path)
    assert not encoder.counts_tokens
    assert not encoder.encode(TEXTS[:2], 99).counted.any()
    assert "only sentence-transformers can prepare" in caplog.text


def test_flattened_texts_give_the_vectors_of_padded_ones(backbone, tmp_path, monkeypatch, request):
    """The strategy of a GPU, with an attention that computes one text after the other."""
    from vecfill.encode.library import library_strategy
    from vecfill.encode.library.flattened_attention import OURS

    folder = tmp_path / "model"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(OURS, "texts", lambda: one_text_after_the_other)
    monkeypatch.setattr(library_strategy, "possible_attentions", lambda: ["missing", "texts"])
    rates = iter([1.0, 2.0])
    monkeypatch.setattr(library_strategy, "tokens_per_s", lambda _: next(rates))
    saved(folder, backbone, module("Pooling", WIDTH, ("cls", "mean", "max", "lasttoken", "weightedmean")))
    model = Model(name=str(folder), device="cpu", dtype="float32", encoder="library")
    for _ in ("measured", "remembered"):
        encoder = load_model(model)
        wanted = encoder.net.encode(TEXTS, show_progress_bar=False)
        choice = library_strategy.StrategyChoice(model, encoder.net, encoder.forward, encoder.max_tokens)
        forward, name = choice.fastest(None)
        possible = "mpnet" not in request.node.callspec.id  # its attention adds a bias, and has no name
        assert name == ("texts" if possible else "padded")
        for most in (65_536, 100):
            assert np.abs(forward.encode(TEXTS, most).vectors - wanted).max() <= 1e-5
        assert np.abs(encoder.net.encode(TEXTS, show_progress_bar=False) - wanted).max() <= 1e-5  # still padded


@pytest.mark.parametrize("backbone", ["bert"], indirect=True)
def test_a_strategy_that_is_wrong_or_slower_is_not_used(tmp_path, backbone, monkeypatch):
    from vecfill.encode.library import library_strategy
    from vecfill.encode.library.flattened_attention import OURS

    def wrong(query, *rest, **settings):
        return 1e3 * one_text_after_the_other(query, *rest, **settings)

    saved(tmp_path / "model", backbone, module("Pooling", WIDTH, "mean"))
    model = Model(name=str(tmp_path / "model"), device="cpu", dtype="float32", encoder="library")
    encoder = load_model(model)
    wanted = encoder.encode(TEXTS, 100).vectors
    for number, (attend, rate) in enumerate([(wrong, 9.0), (one_text_after_the_other, 0.5)]):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(number)))
        monkeypatch.setitem(OURS, "texts", lambda attend=attend: attend)
        monkeypatch.setattr(library_strategy, "possible_attentions", lambda: ["texts"])
        rates = iter([1.0, rate])
        monkeypatch.setattr(library_strategy, "tokens_per_s", lambda _, rates=rates: next(rates))
        choice = library_strategy.StrategyChoice(model, encoder.net, encoder.forward, encoder.max_tokens)
        forward, name = choice.fastest(None)
        assert name == "padded"
        np.testing.assert_array_equal(forward.encode(TEXTS, 100).vectors, wanted)


@pytest.mark.parametrize("backbone", ["bert"], indirect=True)
def test_a_strategy_that_did_not_fit_is_tried_again_and_an_unknown_one_forgotten(tmp_path, backbone, monkeypatch):
    from vecfill.encode.library import library_strategy
    from vecfill.encode.library.flattened_attention import OURS

    def full(*_, **__):
        raise RuntimeError("CUDA out of memory")

    saved(tmp_path / "model", backbone, module("Pooling", WIDTH, "mean"))
    model = Model(name=str(tmp_path / "model"), device="cpu", dtype="float32", encoder="library")
    encoder = load_model(model)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library_strategy, "possible_attentions", lambda: ["texts"])
    for attend, name in ((full, "padded"), (one_text_after_the_other, "texts"), (one_text_after_the_other, "texts")):
        monkeypatch.setitem(OURS, "texts", lambda attend=attend: attend)
        rates = iter([1.0, 2.0])
        monkeypatch.setattr(library_strategy, "tokens_per_s", lambda _, rates=rates: next(rates))
        choice = library_strategy.StrategyChoice(model, encoder.net, encoder.forward, encoder.max_tokens)
        assert choice.fastest(None)[1] == name
        for file in (tmp_path / "vecfill" / "strategies").glob("*.json"):
            file.write_text(file.read_text().replace('"texts"', '"unknown"'))


def one_text_after_the_other(query, key, value, places, *_, scale, window_size, enable_gqa):
    """With the signature of ``torch.nn.attention.varlen.varlen_attn``, which only runs on a GPU."""
    import torch

    assert places.dtype == torch.int32
    found = torch.empty_like(query)
    left, right = (torch.inf if reach < 0 else reach for reach in window_size)
    for start, end in zip(places[:-1].tolist(), places[1:].tolist(), strict=True):
        one = (part[start:end].transpose(0, 1) for part in (query, key, value))
        ahead = torch.arange(end - start)[None, :] - torch.arange(end - start)[:, None]
        seen = (ahead >= -left) & (ahead <= right)
        result = torch.nn.functional.scaled_dot_product_attention(
            *one, attn_mask=seen, scale=scale, enable_gqa=enable_gqa
        )
        found[start:end] = result.transpose(0, 1)
    return found


def test_a_static_embedding_goes_through_the_library(tmp_path):
    words = tokenizer().backend_tokenizer
    net = library(modules=[module("StaticEmbedding", words, embedding_dim=12)])
    net.save(str(tmp_path), create_model_card=False)
    assert not compared(net, tmp_path).counts_tokens
    auto = load_model(Model(name=str(tmp_path), device="cpu", encoder="library"))
    assert auto.dtype == "float32"
    np.testing.assert_array_equal(auto.encode(TEXTS, 65_536).vectors, net.encode(TEXTS, show_progress_bar=False))


def test_threads_may_share_it(mean):
    _, encoder = mean
    parts = [TEXTS[start::5] for start in range(5)] * 4
    wanted = [encoder.encode(part, 300).vectors for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(lambda part: encoder.encode(part, 300).vectors, parts), wanted, strict=True):
            assert np.abs(one - other).max() <= 1e-5
