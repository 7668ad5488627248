"""Which strategy computes: what is possible on a device, right there, and the fastest."""

import numpy as np
import pytest

from vecfill.encode.native.architecture import architecture_of
from vecfill.encode.native.proof import Proof
from vecfill.encode.tokens.tokenization import TokenizerSpec

pytestmark = pytest.mark.slow

SPEC = TokenizerSpec(definition="{}", types=False, pad=(0, 0), pads_left=False, cuts_left=False, splits_special=False)


def proof(attention, rate, *, agrees=True):
    rates = {attention: rate} if agrees else {}
    facts = {"dtype": "bfloat16", "cosine": 1.0, "difference": 0.0, "max_tokens": 9, "limits": (3, 9)}
    return Proof(agrees=agrees, attention=attention, rates=rates, tokenizer=SPEC, **facts)


@pytest.mark.parametrize(
    ("proofs", "library", "chosen", "agrees"),
    [
        ([proof("runs", 3.0), proof("varlen", 5.0)], 4.0, "varlen", True),
        ([proof("runs", 3.0), proof("varlen", 5.0, agrees=False)], 2.0, "runs", True),
        ([proof("runs", 3.0, agrees=False), proof("varlen", 5.0)], 2.0, "varlen", True),
        ([proof("runs", 3.0), proof("varlen", 5.0)], 5.1, "varlen", True),
        ([proof("runs", 3.0), proof("varlen", 5.0)], 6.0, "varlen", False),
        ([proof("runs", 3.0, agrees=False), proof("varlen", 5.0, agrees=False)], 1.0, "runs", False),
    ],
)
def test_the_fastest_that_is_right_computes_unless_the_library_is_faster(proofs, library, chosen, agrees):
    from vecfill.encode.native.proving import _chosen

    found = _chosen(proofs, library)
    assert (found.attention, found.agrees) == (chosen, agrees)
    right = {one.attention for one in proofs if one.agrees}
    assert set(found.rates) == (right | {"library"} if right else set())
    if right and not agrees:
        assert found.reason == "it is slower here: 5 tokens/s, and the library 6"


def test_on_a_cpu_there_is_no_choice():
    import torch

    from vecfill.encode.native.attention import possible_strategies

    assert possible_strategies(bert(), torch.device("cpu"), torch.bfloat16) == ["runs"]


@pytest.mark.parametrize(
    ("config", "dtype", "capability", "possible"),
    [
        ({}, "bfloat16", (9, 0), True),
        ({}, "float16", (8, 0), True),
        ({}, "float32", (9, 0), False),
        ({}, "float16", (7, 5), False),
        ({"num_attention_heads": 64}, "bfloat16", (9, 0), False),
        ({"num_attention_heads": 2}, "bfloat16", (9, 0), False),
        ({"model_type": "mpnet"}, "bfloat16", (9, 0), False),
    ],
)
def test_flash_attention_is_tried_where_it_can_compute(monkeypatch, config, dtype, capability, possible):
    import torch

    from vecfill.encode.native.attention import possible_strategies

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    found = possible_strategies(bert(**config), torch.device("cuda"), getattr(torch, dtype))
    assert found == ["runs", "varlen"] if possible else ["runs"]


def bert(**config):
    return architecture_of({"model_type": "bert", **config})


def test_flash_attention_gets_the_texts_that_the_formula_gets():
    """A stand-in with the signature of torch's, which only runs on a GPU, and its way to say where texts are."""
    import torch

    from vecfill.encode.device.packing import Packing, boundaries_of
    from vecfill.encode.native.attention import RunAttention, TextAttention, VarlenAttention

    def flash(*arguments):
        query, key, value, places, same_places, longest, same_longest = arguments
        assert (places.dtype, longest, same_longest) == (torch.int32, 7, 7)
        found = torch.empty_like(query)
        for start, end in zip(places[:-1].tolist(), same_places[1:].tolist(), strict=True):
            one = (part[start:end].transpose(0, 1) for part in (query, key, value))
            found[start:end] = torch.nn.functional.scaled_dot_product_attention(*one).transpose(0, 1)
        return found

    lengths = np.array([3, 7, 7, 1, 2])
    texts = Packing(lengths=lengths.tolist(), boundaries=torch.from_numpy(boundaries_of(lengths)))
    projections = torch.randn(20, 3, 2, 8, generator=torch.Generator().manual_seed(5))
    varlen = VarlenAttention()
    varlen._attend = flash
    wanted = TextAttention()(projections, texts, lambda _: None)
    for attention in (varlen, RunAttention()):
        assert (attention(projections, texts, lambda _: None) - wanted).abs().max() <= 1e-6
