import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfill.config.model import Model
from vecfill.encode.hash_encoder import HashEncoder
from vecfill.encode.load import load_model
from vecfill.errors import ConfigError


@given(st.lists(st.text(), max_size=40), st.integers(1, 70))
def test_vectors_are_unit_float32_and_depend_on_the_text_alone(texts, dim):
    encoder = HashEncoder(dim)
    encoding = encoder.encode(texts, 7)
    assert encoding.vectors.shape == (len(texts), dim)
    assert encoding.vectors.dtype == np.float32
    assert encoding.vectors.flags.c_contiguous
    assert not encoding.counted.any()
    assert not encoding.truncated.any()
    np.testing.assert_allclose(np.linalg.norm(encoding.vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(texts, encoding.vectors, strict=True):
        assert np.array_equal(encoder.encode_query(text), vector)


def test_the_vectors_are_the_same_on_every_machine():
    """Bit for bit: stored vectors are compared with recomputed ones."""
    assert HashEncoder(5).encode_query("Staff engineer, Zürich").tobytes().hex() == (
        "d647113f90c32cbe4048a3bed147213ff0dec63e"
    )


def test_blocks_longer_than_a_chunk_keep_their_order():
    texts = [f"text {number}" for number in range(3000)]
    vectors = HashEncoder(8).encode(texts, 32).vectors
    assert np.array_equal(vectors[2999], HashEncoder(8).encode_query("text 2999"))
    assert len(np.unique(vectors, axis=0)) == 3000


def test_texts_are_as_far_apart_as_random_vectors():
    vectors = HashEncoder(384).encode([f"text {number}" for number in range(1000)], 32).vectors
    cosines = (vectors @ vectors.T)[np.triu_indices(1000, 1)]
    assert abs(cosines.mean()) < 0.001
    assert cosines.std() == pytest.approx(384**-0.5, rel=0.02)
    assert np.abs(vectors.mean(axis=0)).max() < 0.01


def test_the_model_gives_a_stand_in():
    encoder = load_model(Model(name="hash:12"))
    assert isinstance(encoder, HashEncoder)
    assert (encoder.dim, encoder.device, encoder.dtype, encoder.max_tokens) == (12, "cpu", "float32", None)


def test_it_has_no_tokens_to_cut_at():
    with pytest.raises(ConfigError, match="--max-tokens is 9 but hash:8 counts no tokens: leave it out"):
        load_model(Model(name="hash:8", max_tokens=9))


def test_a_salt_makes_another_model_of_the_same_dimension():
    salted = HashEncoder(8, b"other")
    assert not np.allclose(salted.encode_query("text"), HashEncoder(8).encode_query("text"), atol=0.1)
    assert np.array_equal(load_model(Model(name="hash:8:other")).encode_query("text"), salted.encode_query("text"))
    with pytest.raises(ConfigError, match="at most 16 bytes"):
        load_model(Model(name=f"hash:8:{'x' * 17}"))
