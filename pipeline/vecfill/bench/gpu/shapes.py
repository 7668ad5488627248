"""Models of random weights in the shapes of those that most people run, written as folders that any encoder loads."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

Device = Literal["cuda", "cpu"]

_DECODERS = {"Qwen3"}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model's shape.

    Attributes:
        name: of the model, or what it stands for.
        kind: of its classes in transformers, such as ``Bert``.
        sizes: of its configuration.
        vocabulary: number of tokens.
        pooling: of sentence-transformers.
        limit: tokens that texts are cut to.
    """

    name: str
    kind: str
    sizes: dict[str, Any]
    vocabulary: int = 30_522
    pooling: str = "mean"
    limit: int = 512


def _bert(width: int, layers: int, heads: int) -> dict[str, Any]:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return sizes | {"intermediate_size": 4 * width, "max_position_embeddings": 512}


_MODERN = {"hidden_size": 768, "num_hidden_layers": 22, "num_attention_heads": 12, "intermediate_size": 1_152}
_QWEN = {"hidden_size": 1_024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8}
_QWEN |= {"head_dim": 128, "intermediate_size": 3_072, "max_position_embeddings": 32_768}

SHAPES = (
    Shape(name="MiniLM-L6", kind="Bert", sizes=_bert(384, 6, 12)),
    Shape(name="bge-small", kind="Bert", sizes=_bert(384, 12, 12), pooling="cls"),
    Shape(name="bge-base", kind="Bert", sizes=_bert(768, 12, 12), pooling="cls"),
    Shape(name="bge-large", kind="Bert", sizes=_bert(1_024, 24, 16), pooling="cls"),
    Shape(name="ModernBERT-base", kind="ModernBert", sizes=_MODERN, vocabulary=50_368),
    Shape(name="Qwen3-0.6B", kind="Qwen3", sizes=_QWEN, vocabulary=151_669, pooling="lasttoken"),
)
"""For speed: the shapes of the models, at the lengths of most texts."""

_SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
_ROBERTA = _SMALL | {"max_position_embeddings": 66, "pad_token_id": 0}
_DISTIL = {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 96, "max_position_embeddings": 64}
_POSITIONS = {"max_position_embeddings": 64}

SMALL = (
    Shape(name="bert", kind="Bert", sizes=_SMALL | _POSITIONS, vocabulary=500, limit=64),
    Shape(name="roberta", kind="Roberta", sizes=_ROBERTA, vocabulary=500, pooling="cls", limit=64),
    Shape(name="xlm-roberta", kind="XLMRoberta", sizes=_ROBERTA, vocabulary=500, limit=64),
    Shape(name="mpnet", kind="MPNet", sizes=_SMALL | {"max_position_embeddings": 130}, vocabulary=500, limit=128),
    Shape(name="distilbert", kind="DistilBert", sizes=_DISTIL, vocabulary=500, pooling="max", limit=64),
    Shape(name="modernbert", kind="ModernBert", sizes=_SMALL | {"local_attention": 16}, vocabulary=500, limit=256),
    Shape(
        name="qwen3",
        kind="Qwen3",
        sizes=_SMALL | _POSITIONS | {"num_key_value_heads": 2, "head_dim": 16},
        vocabulary=500,
        pooling="lasttoken",
        limit=64,
    ),
)
"""For correctness: a small one of each family."""


def written(shape: Shape, folder: Path, device: str) -> Path:
    """Writes a model of random weights that sentence-transformers loads; returns the folder.

    Drawn on the device, which is fast; wide enough that attention and every bias matter to the vectors.
    """
    import torch
    import transformers
    from safetensors.torch import save_file

    words = _tokenizer(shape)
    ids = {"vocab_size": shape.vocabulary, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3}
    ids |= {"bos_token_id": 2, "eos_token_id": 3} | shape.sizes
    config = getattr(transformers, f"{shape.kind}Config")(**ids)
    with torch.device("meta"):
        net = getattr(transformers, f"{shape.kind}Model")(config)
    draw = torch.Generator(device).manual_seed(7)
    weights = {}
    for name, one in net.state_dict().items():
        values = torch.randn(one.shape, generator=draw, device=device) * _spread(shape, one)
        weights[name] = (values + (1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0)).cpu()
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    words.save_pretrained(folder)
    width = shape.sizes.get("hidden_size") or shape.sizes["dim"]
    _modules(folder, width, shape.pooling)
    return folder


def _spread(shape: Shape, weight: Any) -> float:
    """The spread that keeps a layer's output as wide as its input; small for biases.

    Smaller for decoders: nothing scales the sum of their layers down, and its rounding in bfloat16 would cost a mean
    cosine of 0.9999 in the library's own pass.
    """
    if weight.ndim == 1:
        return 0.1
    return float(weight.shape[-1] ** -0.5) * (0.4 if shape.kind in _DECODERS else 1.0)


def _tokenizer(shape: Shape) -> Any:
    """BERT's tokenizer with words that are one token each; the extra ``fast`` proves itself on it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*_SPECIAL, *words_of(shape)])}
    raw = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 -- no secret
    raw.normalizer, raw.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    template = "$A [SEP]" if shape.kind in _DECODERS else "[CLS] $A [SEP]"
    raw.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)
    names = ["input_ids", "attention_mask"]
    tokens = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), _SPECIAL, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=shape.limit,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"] if shape.kind == "Bert" else names,
        padding_side="left" if shape.kind in _DECODERS else "right",
        **tokens,
    )


def words_of(shape: Shape) -> list[str]:
    """Returns the words of a shape's vocabulary."""
    return [f"w{number}" for number in range(shape.vocabulary - len(_SPECIAL))]


def special_tokens(shape: Shape) -> int:
    """Returns how many tokens are added to a text."""
    return 1 if shape.kind in _DECODERS else 2


def _modules(folder: Path, width: int, pooling: str) -> None:
    modules: Any = importlib.import_module("sentence_transformers.sentence_transformer.modules")
    from sentence_transformers import SentenceTransformer

    net = SentenceTransformer(
        modules=[modules.Transformer(str(folder)), modules.Pooling(width, pooling), modules.Normalize()], device="cpu"
    )
    net.save(str(folder), create_model_card=False)
