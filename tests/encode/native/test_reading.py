"""Which models our pass reads: nothing is guessed, so what is not known goes to the library."""

from __future__ import annotations

import json
import shutil

import pytest

from vecfill.encode.native.architecture import Architecture, NotNativeError, architecture_of
from vecfill.encode.native.module_chain import DenseStep, chain_of
from vecfill.encode.native.proof import CODE, code_digest
from vecfill.encode.tokens.hard_texts import hard_texts

MINILM = {
    "_name_or_path": "nreimers/MiniLM-L6-H384-uncased",
    "architectures": ["BertModel"],
    "hidden_size": 384,
    "layer_norm_eps": 1e-6,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 6,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "use_cache": True,
}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
    {"idx": 3, "name": "3", "path": "3_Normalize", "type": "sentence_transformers.models.Normalize"},
]
FILES = {
    "config.json": MINILM,
    "modules.json": MODULES,
    "config_sentence_transformers.json": {"__version__": {}, "prompts": {"query": "q: "}, "similarity_fn_name": "dot"},
    "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": True},
    "1_Pooling/config.json": {"word_embedding_dimension": 384, "pooling_mode_cls_token": True},
    "2_Dense/config.json": {"in_features": 384, "activation_function": "torch.nn.modules.linear.Identity"},
}


def test_a_known_model():
    chain = chain_of(FILES.get)
    assert chain.architecture == Architecture(
        family="bert", width=384, layers=6, heads=12, activation="gelu", epsilon=1e-6, padding=None
    )
    assert (chain.folder, chain.poolings) == ("", ("cls",))
    assert chain.steps == (DenseStep(folder="2_Dense", activation="Identity"), None)


@pytest.mark.parametrize("missing", ["config.json", "1_Pooling/config.json", "2_Dense/config.json"])
def test_a_file_that_is_not_fetched_yet_leaves_the_model_to_the_library(missing):
    with pytest.raises(NotNativeError, match=f"{missing} holds no settings"):
        chain_of({name: file for name, file in FILES.items() if name != missing}.get)


def test_what_is_missing_has_the_library_s_default():
    chain = chain_of({"config.json": {"model_type": "distilbert"}}.get)
    assert (chain.architecture.width, chain.architecture.layers, chain.poolings) == (768, 6, ("mean",))
    assert architecture_of({"model_type": "xlm-roberta"}).padding == 1
    assert architecture_of({"model_type": "mpnet", "pad_token_id": 5}).padding == 1


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("config.json", {"model_type": "modernbert"}, "model_type is 'modernbert'"),
        ("config.json", {"position_embedding_type": "relative_key"}, "position_embedding_type to 'relative_key'"),
        ("config.json", {"hidden_act": "tanh"}, "activation is 'tanh'"),
        ("config.json", {"is_decoder": True}, "is_decoder to True"),
        ("config.json", {"output_hidden_states": True}, "output_hidden_states to True"),
        ("config.json", {"auto_map": {"AutoModel": "modeling.Own"}}, "key auto_map, whose meaning is not known"),
        ("config.json", {"quantization_config": {}}, "key quantization_config"),
        ("config.json", {"num_attention_heads": 7}, r"sizes \[384, 6, 7\]"),
        ("config.json", {"hidden_size": "384"}, "sizes"),
        ("config.json", {"model_type": "roberta", "pad_token_id": None}, "padding token None"),
        ("config.json", {"model_type": "mpnet", "relative_attention_num_buckets": 64}, "buckets to 64"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "model_type to 'SparseEncoder'"),
        ("config_sentence_transformers.json", {"later": 1}, "key later"),
        ("sentence_bert_config.json", {"query_length": 8}, "query_length to 8"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {}}}, "processing_kwargs"),
        ("sentence_roberta_config.json", {"model_args": {"x": 1}}, "model_args"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt to False"),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}, "pooling is 'attention'"),
        ("1_Pooling/config.json", {"pooling_mode_new_token": True}, "key pooling_mode_new_token"),
        ("2_Dense/config.json", {"activation_function": "my.own.Activation"}, "activation my.own.Activation"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.PReLU"}, "activation torch"),
        ("2_Dense/config.json", {"use_residual": True}, "use_residual to True"),
        ("3_Normalize/config.json", {"module_input_name": "token_embeddings"}, "module_input_name"),
        ("adapter_config.json", {}, "adapter"),
    ],
    ids=str,
)
def test_what_is_not_known_goes_to_the_library(file, change, reason):
    files = FILES | {file: FILES.get(file, {}) | change}
    with pytest.raises(NotNativeError, match=reason):
        chain_of(files.get)


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ([{"path": "", "type": "sentence_transformers.models.StaticEmbedding"}], "its modules are StaticEmbedding"),
        ([{"path": "", "type": "custom_st.Transformer"}], "module 'custom_st.Transformer'"),
        ([*MODULES[:2], {"path": "2", "type": "sentence_transformers.models.Dropout"}], "module Dropout"),
        ([*MODULES[:1], {**MODULES[1], "kwargs": ["task"]}], "kwargs"),
        (["Transformer"], "entry 'Transformer'"),
    ],
    ids=["static", "custom", "dropout", "kwargs", "odd"],
)
def test_other_modules_go_to_the_library(modules, reason):
    with pytest.raises(NotNativeError, match=reason):
        chain_of((FILES | {"modules.json": modules}).get)


def test_files_that_hold_something_else_go_to_the_library():
    with pytest.raises(NotNativeError, match=r"config\.json holds no settings"):
        chain_of((FILES | {"config.json": []}).get)


def test_hard_texts_reach_the_limit_and_contain_the_added_tokens():
    texts = hard_texts(64, ["[MASK]", "<odd>"])
    assert "" in texts
    assert "word " * 61 in texts
    assert max(len(text.split()) for text in texts) >= 2 * 64
    assert any("<odd> a <odd><odd>" in text for text in texts)
    assert json.loads(json.dumps(texts)) == texts


@pytest.mark.parametrize("room", ["native", "device", "tokens", "library", "model"])
def test_a_proof_is_about_the_code_of_every_room_that_computes(tmp_path, room):
    encode = shutil.copytree(CODE, tmp_path / "encode", ignore=shutil.ignore_patterns("__pycache__"))
    assert code_digest(encode) == code_digest(CODE)
    (encode / room / "__init__.py").write_text("changed = True")
    assert code_digest(encode) != code_digest(CODE)
