"""Reads a transformer's ``config.json``: what our pass computes, or why it does not. Imports no torch.

Nothing is guessed: each key is known to matter and is handled, is known not to change a vector, or sends the model to
the library. So does a value that our pass does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class NotNativeError(Exception):
    """Our pass does not compute this model; the message says why."""


class MissingWeightError(NotNativeError):
    """The model's files lack a weight that our pass needs."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A transformer of one of the known families: layers with the normalisation behind each residual sum.

    Attributes:
        family: ``model_type`` of ``config.json``.
        width: length of a token's vector.
        layers: number of layers.
        heads: attention heads; they divide the width.
        activation: name in ``ACTIVATIONS``.
        epsilon: of the layer normalisations.
        padding: token id that has no position of its own, and behind which positions are counted; None counts from 0.
    """

    family: str
    width: int
    layers: int
    heads: int
    activation: str
    epsilon: float
    padding: int | None


ACTIVATIONS = frozenset({"gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"})

_SIZES = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
_BERT = {**_SIZES, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
_READ: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    "roberta": {**_BERT, "pad_token_id": 1},
    "xlm-roberta": {**_BERT, "pad_token_id": 1},
    "mpnet": _BERT,
    "distilbert": {"dim": 768, "n_layers": 6, "n_heads": 12, "activation": "gelu"},
}
"""Keys that are read, by family, with the values that transformers gives them where they are missing."""

FAMILIES = frozenset(_READ)

_SAME = {"dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads"}
_SAME |= {"activation": "hidden_act"}
"""DistilBERT's names."""

_DISTILBERT_EPSILON = 1e-12
_MPNET_PADDING = 1
"""Constants of these families, whatever their configuration says."""

_ONLY: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "chunk_size_feed_forward": (0,),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "output_attentions": (False,),
    "output_hidden_states": (False,),
    "position_embedding_type": ("absolute",),
    "pruned_heads": ({}, None),
    "relative_attention_num_buckets": (32,),
    "return_dict": (True,),
    "torchscript": (False,),
}
"""Keys that would change the computation, with the only values that our pass knows."""

_NO_MATTER = frozenset(
    {
        # of the weights, whose shapes say it
        *("vocab_size", "type_vocab_size", "max_position_embeddings", "intermediate_size", "hidden_dim"),
        *("sinusoidal_pos_embds", "torch_dtype", "dtype"),
        # of training
        *("attention_dropout", "attention_probs_dropout_prob", "dropout", "gradient_checkpointing"),
        *("hidden_dropout_prob", "initializer_factor", "initializer_range", "use_cache"),
        # of heads behind the transformer, and of generation
        *("classifier_dropout", "finetuning_task", "id2label", "label2id", "num_labels", "problem_type", "qa_dropout"),
        *("seq_classif_dropout", "tie_weights_", "tie_word_embeddings", "output_past", "task_specific_params"),
        *("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"),
        *("pooler_size_per_head", "pooler_type"),
        # of the tokenizer, which is taken from the library
        *("bos_token_id", "cls_token_id", "eos_token_id", "mask_token_id", "pad_token_id", "sep_token_id"),
        *("tokenizer_class", "model_max_length"),
        # names
        *("_name_or_path", "architectures", "model_type", "name_or_path", "transformers_version"),
    }
)


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """Returns what ``config.json`` declares.

    Raises:
        NotNativeError: another family, a key that is not known, or a value that our pass does not compute.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise NotNativeError(f"model_type is {family!r}")
    found = _READ[family]
    for key, value in config.items():
        if key in _ONLY and value not in _ONLY[key]:
            raise NotNativeError(f"config.json sets {key} to {value!r}")
        if key not in _ONLY and key not in found and key not in _NO_MATTER:
            raise NotNativeError(f"config.json has the key {key}, whose meaning is not known")
    return _checked(family, {_SAME.get(key, key): config.get(key, default) for key, default in found.items()})


def _checked(family: str, values: Mapping[str, Any]) -> Architecture:
    counts = [values[key] for key in _SIZES]
    if not all(type(count) is int and count > 0 for count in counts) or counts[0] % counts[2]:
        raise NotNativeError(f"config.json gives the sizes {counts}")
    if values["hidden_act"] not in ACTIVATIONS:
        raise NotNativeError(f"the activation is {values['hidden_act']!r}")
    padding = _MPNET_PADDING if family == "mpnet" else values.get("pad_token_id")
    if family in ("roberta", "xlm-roberta") and type(padding) is not int:
        raise NotNativeError(f"config.json gives the padding token {padding!r}")
    return Architecture(
        family=family,
        width=counts[0],
        layers=counts[1],
        heads=counts[2],
        activation=values["hidden_act"],
        epsilon=float(values.get("layer_norm_eps", _DISTILBERT_EPSILON)),
        padding=padding,
    )
