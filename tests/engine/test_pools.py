"""How many workers a cluster gets: what they reserve always fits."""

from __future__ import annotations

from itertools import product

import pytest

from vecfill.engine.pools import READ_CPUS, WRITE_CPUS, Pools
from vecfill.errors import ConfigError

WISHES = [{}, {"actors": 1}, {"actors": 2}, {"writers": 1}, {"writers": 2}, {"gpus": 0.5}, {"device": "cpu"}]


def fitting(cpus: float, gpus: float, /, **wish):
    found = {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})
    return Pools.fitting(found, **({"device": "auto", "actors": None, "gpus": None, "writers": None} | wish))


def test_what_is_reserved_fits_the_machine():
    """All actors have to fit, or Ray waits for ever."""
    for cpus, gpus, wish in product([1, 2, 3, 4, 16, 64], [0, 1, 2, 8], WISHES):
        if gpus or "gpus" not in wish:
            assert_it_fits(cpus, gpus, wish)


def assert_it_fits(cpus, gpus, wish):
    pools = fitting(cpus, gpus, **wish)
    given = cpus, gpus, wish, pools
    assert pools.encoders * pools.cpus + pools.writers * WRITE_CPUS + READ_CPUS <= cpus + 1e-9, given
    assert pools.readers * READ_CPUS + pools.writers * WRITE_CPUS <= pools.spare_cpus + 1e-9, given
    assert pools.encoders * pools.gpus <= gpus, given
    assert pools.cpus > 0, given
    assert pools.encoders == wish.get("actors", pools.encoders), given
    assert pools.writers == wish.get("writers", pools.writers) >= 1, given
    assert (pools.gpus > 0) == (gpus > 0 and wish.get("device") != "cpu"), given


def test_each_gpu_gets_an_encoder_and_two_writers():
    pools = fitting(16, 2)
    assert (pools.encoders, pools.gpus, pools.writers) == (2, 1.0, 4)
    assert fitting(16, 2, gpus=0.5).encoders == 4
    assert fitting(16, 1, actors=3).gpus == pytest.approx(1 / 3, abs=1e-4)


def test_without_a_gpu_each_eight_cores_have_an_encoder():
    found = [(fitting(cpus, 0).encoders, fitting(cpus, 0).cpus) for cpus in (2, 4, 15, 16, 64)]
    assert found == [(1, 1), (1, 3), (1, 14), (2, 7), (8, 7)]


@pytest.mark.parametrize(
    ("writers", "most", "given"), [(4, 16, (4, 2)), (4, 5, (3, 1)), (4, 3, (1, 1)), (1, 9, (1, 2))]
)
def test_readers_and_writers_leave_a_connection_to_the_driver(writers, most, given):
    pools = fitting(16, 1, writers=writers)
    assert pools.within(None) == pools
    within = pools.within(most)
    assert (within.writers, within.readers) == given
    assert within.writers + within.readers + 1 <= most


@pytest.mark.parametrize(
    ("cpus", "gpus", "wish", "says"),
    [
        (2, 0, {"gpus": 1.0}, "has no GPU"),
        (2, 0, {"device": "cuda"}, "has no GPU"),
        (2, 1, {"gpus": 2.0}, "1 encoders of 2 GPUs do not fit 1 GPUs"),
        (2, 1, {"gpus": 1.0, "actors": 2}, "2 encoders of 1 GPUs do not fit 1 GPUs"),
        (2, 0, {"writers": 9}, "1 encoders and 9 writers do not fit the cluster's 2 CPUs"),
        (1, 0, {"actors": 80}, "80 encoders and 1 writers do not fit"),
    ],
)
def test_what_cannot_fit_is_refused(cpus, gpus, wish, says):
    with pytest.raises(ConfigError, match=says):
        fitting(cpus, gpus, **wish)


def test_the_encoders_of_gpus_share_the_cores_of_the_nodes_that_have_gpus():
    mixed = {"CPU": 72.0, "GPU": 8.0, "nodes": 6.0, "GPU nodes": 2.0, "CPU a node": 8.0}
    assert Pools.fitting(mixed, device="auto", actors=None, gpus=None, writers=None).share == 4
    assert Pools.fitting(mixed, device="cpu", actors=6, gpus=None, writers=None).share == 1


def test_an_encoder_on_a_gpu_takes_one_block_more():
    assert (fitting(16, 1).blocks_an_encoder(2), fitting(16, 0).blocks_an_encoder(2)) == (3, 2)


def test_the_encoders_of_cpu_nodes_share_out_each_node_s_cores():
    resources = {"CPU": 64.0, "nodes": 4.0, "CPU a node": 16.0}
    pools = Pools.fitting(resources, device="auto", actors=None, gpus=None, writers=None)
    assert (pools.encoders, pools.share, pools.cpus) == (8, 2, 7)
    pools = Pools.fitting(resources, device="auto", actors=4, gpus=None, writers=None)
    assert (pools.encoders, pools.share, pools.cpus) == (4, 1, 15)


@pytest.mark.parametrize("calls", [1, 2, 8])
@pytest.mark.parametrize(("cpus", "gpus"), [(2, 0), (16, 0), (64, 8)])
def test_writers_take_enough_blocks_to_keep_every_encoder_at_work(cpus, gpus, calls):
    pools = fitting(cpus, gpus)
    assert pools.writers * pools.blocks_a_writer(calls) >= pools.encoders * calls + pools.writers
    assert pools.spare_cpus + pools.encoders * pools.cpus <= cpus + 1e-9
