"""The length in tokens that a SentenceTransformer cuts texts to: ``--max-tokens``, its own, or its positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from vecfill.config.model import Model
from vecfill.encode.device.precision import PROBE_TEXTS
from vecfill.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

_UNLIMITED = 10**9
"""Tokenizers without a limit report 10^30."""


def limit_tokens(model: Model, net: SentenceTransformer) -> int | None:
    """Applies ``--max-tokens`` and returns the length in tokens that texts are cut to, None without a limit.

    Some tokenizers know no length, or a longer one than the model has positions: then the positions are the limit.
    """
    from sentence_transformers.base.modules import Transformer

    if model.max_tokens is not None:
        check_limit(model, limit_range(model, net))
        if not _obeys(net, model.max_tokens):
            raise ConfigError(
                f"--max-tokens is {model.max_tokens} but model {model.name} cuts texts by itself, at another length: "
                "leave it out"
            )
    for module in net.modules():
        if isinstance(module, Transformer):
            _cap_at_positions(module)
    limit = net.max_seq_length
    return int(limit) if limit is not None and limit < _UNLIMITED else None


def _cap_at_positions(module: Transformer) -> None:
    positions, limit = _table_positions(module), module.max_seq_length
    if positions is not None and (limit is None or limit > positions):
        module.max_seq_length = positions


def _obeys(net: SentenceTransformer, wanted: int) -> bool:
    """Sets the length; returns whether a longer text then comes out at it, as some modules only seem to take it."""
    try:
        net.max_seq_length = wanted
    except AttributeError:  # a route of the model computes its own
        return False
    ids: Any = net.preprocess([" ".join(PROBE_TEXTS) * (1 + wanted // len(PROBE_TEXTS))]).get("input_ids")
    return ids is not None and ids.shape[-1] == wanted


def check_limit(model: Model, possible: tuple[int, int | None]) -> None:
    """Checks ``--max-tokens`` against the lowest and the highest length that the model takes; None knows no highest.

    Raises:
        ConfigError: it is outside.
    """
    lowest, highest = possible
    if model.max_tokens is not None and not lowest <= model.max_tokens <= (highest or model.max_tokens):
        raise ConfigError(
            f"--max-tokens is {model.max_tokens} but model {model.name} takes {lowest} to {highest or 'any'} tokens: "
            "choose a number in that range"
        )


def limit_range(model: Model, net: SentenceTransformer) -> tuple[int, int | None]:
    """Returns the lowest and the highest ``--max-tokens`` that the net takes; None if there is no highest.

    Raises:
        ConfigError: it has no length limit at all.
    """
    if net.transformers_model is None:
        raise ConfigError(
            f"--max-tokens is {model.max_tokens} but model {model.name} has no length limit: leave it out"
        )
    special = net.tokenizer.num_special_tokens_to_add(False) if getattr(net, "tokenizer", None) is not None else 0
    return 1 + special, _positions(net)


def _positions(net: SentenceTransformer) -> int | None:
    """Returns the number of positions that the model was built with, None if unknown or unlimited (XLNet says -1)."""
    config: Any = net.config
    config = config.get_text_config() if hasattr(config, "get_text_config") else config  # CLIP and its relatives
    limit = getattr(config, "max_position_embeddings", None)
    return _table_positions(net) or (limit if isinstance(limit, int) and limit > 0 else None)


def _table_positions(net: torch.nn.Module) -> int | None:
    """Returns the tokens that the model's table of positions holds; None if it has none.

    RoBERTa and its relatives start counting after the padding index: 514 positions hold 512 tokens.
    """
    for name, module in net.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None
