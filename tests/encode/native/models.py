"""Small models of random weights, of every family that our pass knows, made with the libraries."""

from __future__ import annotations

import importlib
import json

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
"""Odd ones: heads of 8, nothing that is a power of two."""

FAMILIES = {
    "bert": ("Bert", "wordpiece", {"max_position_embeddings": 40, "type_vocab_size": 2}),
    "roberta": ("Roberta", "bpe", {"max_position_embeddings": 42, "pad_token_id": 1, "type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", "unigram", {"max_position_embeddings": 42, "pad_token_id": 1}),
    "mpnet": ("MPNet", "wordpiece", {"max_position_embeddings": 300}),
    "distilbert": ("DistilBert", "wordpiece", {"max_position_embeddings": 40}),
}
"""Family → its classes' name, its tokenizer, and its configuration beside ``SIZES``."""

LIMIT = dict.fromkeys(FAMILIES, 40) | {"mpnet": 290}
"""Tokens; MPNet's many, since from 128 on all distances are one."""

_DISTILBERT = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
_DISTILBERT |= {"intermediate_size": "hidden_dim"}

LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
WORDS = "a staff engineer in zürich and one nurse on night shift part time welder of data 数据 工程 вот"


def tokenizer(kind, limit):
    """A fast tokenizer of transformers: ``wordpiece``, ``bpe`` or ``unigram``."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    common = {"vocab_size": 150, "special_tokens": special, "show_progress": False}
    raw, trainer = {
        "wordpiece": lambda: (Tokenizer(models.WordPiece(unk_token="<unk>")), trainers.WordPieceTrainer(**common)),
        "bpe": lambda: (Tokenizer(models.BPE(unk_token="<unk>")), trainers.BpeTrainer(**common)),
        "unigram": lambda: (Tokenizer(models.Unigram()), trainers.UnigramTrainer(unk_token="<unk>", **common)),
    }[kind]()
    raw.normalizer, raw.pre_tokenizer = {
        "wordpiece": (normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()),
        "bpe": (normalizers.NFC(), pre_tokenizers.ByteLevel()),
        "unigram": (normalizers.NFKC(), pre_tokenizers.Metaspace()),
    }[kind]
    raw.train_from_iterator([WORDS] * 9, trainer)
    ends = [(token, raw.token_to_id(token)) for token in ("<s>", "</s>")]
    raw.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    names = (
        ["input_ids", "token_type_ids", "attention_mask"] if kind == "wordpiece" else ["input_ids", "attention_mask"]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=limit,
        model_input_names=names,
        **dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special, strict=True)),
    )


def transformer(folder, family, **values):
    """Saves a transformer of the family with its tokenizer; returns the folder."""
    import torch
    import transformers

    name, kind, own = FAMILIES[family]
    words = tokenizer(kind, LIMIT[family])
    sizes = {_DISTILBERT[key] if family == "distilbert" else key: value for key, value in SIZES.items()}
    torch.manual_seed(7)
    config = getattr(transformers, f"{name}Config")(**{"vocab_size": len(words), **sizes, **own, **values})
    net = getattr(transformers, f"{name}Model")(config)
    with torch.no_grad():
        for weight in net.parameters():  # else biases are 0 and normalisations 1, and a mistake in them would not show
            weight.add_(torch.randn_like(weight) * 0.1)
    net.save_pretrained(folder)
    if family == "distilbert":
        words.model_input_names = ["input_ids", "attention_mask"]
    words.save_pretrained(folder)
    return folder


def module(kind, *arguments, **values):
    """A module of sentence-transformers."""
    modules = importlib.import_module("sentence_transformers.sentence_transformer.modules")
    return getattr(modules, kind)(*arguments, **values)


def sentence(folder, backbone, pooling, *modules, **arguments):
    """Saves a SentenceTransformer of the backbone; returns it."""
    from sentence_transformers import SentenceTransformer

    layers = [module("Transformer", str(backbone)), module("Pooling", SIZES["hidden_size"], pooling), *modules]
    net = SentenceTransformer(modules=layers, device="cpu", **arguments)
    net.save(str(folder), create_model_card=False)
    return net


def settings(file, **values):
    """Changes a JSON file."""
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | values))
