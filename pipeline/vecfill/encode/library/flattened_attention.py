"""Attention over flattened texts for the models of transformers.

sentence-transformers concatenates texts by itself if the ``flash-attn`` package is installed. We give its models the
same inputs, and an attention function by name that needs no further package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

Attend = Callable[..., torch.Tensor]
"""``torch.nn.attention.varlen.varlen_attn`` or a function with its signature."""

PLACES = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
"""Inputs of flash attention in transformers: where texts begin and end, and the longest text's tokens."""

_PACKAGES = {"flash_attention_3": "flash_attn_interface", "flash_attention_2": "flash_attn"}
"""Attention of transformers that takes flattened inputs, and the package that it needs."""

_UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some models' attention needs beside the tokens, and torch's does not compute."""


def _varlen() -> Attend:
    from torch.nn.attention.varlen import varlen_attn

    return cast(Attend, varlen_attn)


OURS: dict[str, Callable[[], Attend]] = {"varlen": _varlen}
"""Attention that we register, by name."""


def possible_attentions() -> list[str]:
    """Returns the names of the attentions that may compute flattened inputs on a GPU."""
    return [*OURS, *(name for name, package in _PACKAGES.items() if find_spec(package))]


@contextmanager
def attention_of(net: SentenceTransformer, name: str) -> Iterator[Callable[[], None]]:
    """Makes the net's transformer use an attention for flattened inputs; as before at the end, unless kept.

    Args:
        net: it must consist of a transformer that knows attention by name.
        name: one of ``possible_attentions``.

    Yields:
        A function that keeps the attention.

    Raises:
        RuntimeError: the transformer does not take attention by name.
        ImportError, ValueError: this attention is not there.
    """
    first: Any = net[0]
    if type(first) is not Transformer or not getattr(first.model, "is_backend_compatible", lambda: False)():
        raise RuntimeError("its transformer does not take an attention by name")
    before, known = first.config._attn_implementation, first.model_forward_params
    registered = name if name in _PACKAGES else _registered(name)
    kept = False

    def keep() -> None:
        nonlocal kept
        kept = True

    try:
        first.model.set_attn_implementation(registered)
        if known is not None:  # these are no named parameters; the model passes them on to its attention
            first.model_forward_params = {*known, *PLACES}
        yield keep
    finally:
        if not kept:
            first.model.set_attn_implementation(before)
            first.model_forward_params = known


def _registered(name: str) -> str:
    registered = f"vecfill_{name}"
    AttentionInterface.register(registered, _interface(OURS[name]()))
    AttentionMaskInterface.register(registered, _mask)
    return registered


def _mask(**arguments: Any) -> torch.Tensor | None:
    """The mask of padded texts, which the library itself may still compute; flattened ones need none."""
    return None if arguments["attention_mask"] is None else sdpa_mask(**arguments)


def _interface(attend: Attend) -> Callable[..., tuple[torch.Tensor, None]]:
    """An attention function as transformers calls it: query, key and value are [1, heads, tokens, size]."""

    def interface(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        **given: Any,
    ) -> tuple[torch.Tensor, None]:
        if PLACES[0] not in given:
            return cast(tuple[torch.Tensor, None], sdpa_attention_forward(module, query, key, value, mask, **given))
        if unknown := [name for name in _UNKNOWN if given.get(name) is not None]:
            raise RuntimeError(f"its attention needs {unknown[0]}")
        causal, window = given.get("is_causal"), given.get("sliding_window")
        reach = -1 if window is None else window - 1
        one, other, third = (part[0].transpose(0, 1) for part in (query, key, value))
        found = attend(
            *(one, other, third),
            *(given[name] for name in PLACES),
            scale=given.get("scaling"),
            window_size=(reach, 0 if (module.is_causal if causal is None else causal) else reach),
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return found[None], None

    return interface
