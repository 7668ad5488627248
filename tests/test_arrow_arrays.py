"""Arrow arrays are those of pyarrow itself, and a run in one process imports no pandas: for Ray see engine/."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tables import make_docs

from vecfill.arrow_arrays import arrow_array, arrow_scalar, numpy_array
from vecfill.blocks import RESULT_SCHEMA, UNWRITTEN, encoded_schema, text_schema

VALUES = [
    (pa.bool_(), st.booleans()),
    (pa.int8(), st.none() | st.integers(-128, 127)),
    (pa.int32(), st.none() | st.integers(-(2**31), 2**31 - 1)),
    (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    (pa.float32(), st.none() | st.floats(width=32)),
    (pa.float64(), st.none() | st.floats()),
    (pa.string(), st.none() | st.text()),
    (pa.large_string(), st.none() | st.text()),
    (pa.binary(), st.none() | st.binary()),
    (pa.large_binary(), st.none() | st.binary()),
    (pa.binary(4), st.binary(min_size=4, max_size=4)),
    (pa.list_(pa.int64()), st.lists(st.integers(-9, 9))),
    (pa.list_(pa.float32(), 2), st.lists(st.floats(width=32), min_size=2, max_size=2)),
    (UNWRITTEN, st.lists(st.fixed_dictionaries({field.name: st.none() | st.text() for field in UNWRITTEN.value_type}))),
]


@pytest.mark.parametrize(("kind", "one"), VALUES, ids=[str(kind)[:20] for kind, _ in VALUES])
def test_an_array_is_what_pyarrow_makes(kind, one):
    @given(st.lists(one))
    def same(values):
        found, theirs = arrow_array(values, kind), pa.array(values, kind)
        found.validate(full=True)
        assert repr(found.to_pylist()) == repr(theirs.to_pylist())  # NaN is not equal to itself
        assert found.null_count == theirs.null_count
        assert all(repr(arrow_scalar(value, kind)) == repr(pa.scalar(value, kind)) for value in values[:1])

    same()


NUMBERS = [(kind, one) for kind, one in VALUES if pa.types.is_primitive(kind)]


@pytest.mark.parametrize(("kind", "one"), NUMBERS, ids=[str(kind) for kind, _ in NUMBERS])
def test_numpy_gets_what_pyarrow_gives_it(kind, one):
    @given(st.lists(one.filter(lambda value: value is not None)), st.integers(0, 9), st.integers(0, 9))
    def same(values, start, rows):
        whole = pa.array(values, kind)
        for array in (whole, whole[start : start + rows], pa.chunked_array([whole, whole[start:]], kind)):
            found, theirs = numpy_array(array), array.to_numpy(zero_copy_only=False)
            assert (found.dtype, found.tobytes()) == (theirs.dtype, theirs.tobytes())

    same()
    with pytest.raises(ValueError, match="1 of 1 values are null"):
        numpy_array(pa.array([None], kind))


def test_every_type_of_a_block_is_known():
    kinds = {field.type for schema in (text_schema(1), encoded_schema(1, 2), RESULT_SCHEMA) for field in schema}
    known = {kind for kind, _ in VALUES}
    assert {kind for kind in kinds if kind != pa.binary(16)} <= known


def test_a_matrix_is_not_copied_and_its_mask_is_kept():
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = arrow_array(vectors, pa.list_(pa.float32(), 2), np.array([True, False, True]))
    assert found.to_pylist() == [[0.0, 1.0], None, [4.0, 5.0]]
    assert found.values.buffers()[1].address == vectors.ctypes.data


def test_what_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="not every value has 16 bytes"):
        arrow_array([b"short"], pa.binary(16))
    with pytest.raises(OverflowError):
        arrow_array([2**40], pa.int32())


RUN = """
import sys

from vecfill.cli import main

try:
    main()
finally:
    print("pandas" in sys.modules, file=sys.stderr)
"""


@pytest.mark.slow
def test_a_run_in_one_process_imports_no_pandas(connect, database):
    """Though one row cannot be read, and another is refused."""
    make_docs(connect, 300)
    connect.execute("UPDATE docs SET seen = (id <> 7)::int; ALTER TABLE docs ADD CHECK (id <> 9 OR embedding IS NULL)")
    what = ["-t", "docs", "--text", "title", "-m", "hash:8", "--where", "1 / seen = 1", "--engine", "inline"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, "run", "-d", database, *what],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "298 updated" in done.stdout) == (3, True), done.stderr
    assert done.stderr.splitlines()[-1] == "False"
