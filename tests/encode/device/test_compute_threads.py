import gc
import threading
import weakref
from contextlib import suppress
from itertools import count

import pytest

pytestmark = pytest.mark.slow  # loads torch


def threads_of(cores):
    from vecfill.encode.device.compute_threads import ComputeThreads

    return ComputeThreads(cores)


def test_every_item_once():
    done = []
    threads_of(3).for_each(iter(range(200)), done.append)
    assert sorted(done) == list(range(200))


@pytest.mark.parametrize(("cores", "count", "torch_threads"), [(1, 1, 1), (2, 2, 1), (12, 6, 2), (32, 8, 4)])
def test_cores_are_divided(cores, count, torch_threads):
    import torch

    seen = set()
    meet = threading.Barrier(count, timeout=10)

    def note(_item):
        meet.wait()  # passes only if all threads work at once
        seen.add((threading.current_thread().name, torch.get_num_threads()))

    threads_of(cores).for_each(iter(range(count)), note)
    assert len(seen) == count
    assert {number for _, number in seen} == {torch_threads}


def test_without_cores_there_is_one_thread():
    done = []
    threads_of(None).for_each(iter([1, 2]), lambda item: done.append((threading.current_thread().name, item)))
    assert [item for _, item in done] == [1, 2]
    assert len({name for name, _ in done}) == 1


def test_an_error_drops_what_was_not_started_and_the_threads_go_on():
    threads, begun = threads_of(2), []

    def work(item):
        begun.append(item)
        if item == 5:
            raise ValueError("five")

    with pytest.raises(ValueError, match="five"):
        threads.for_each(iter(count()), work)  # endless: only dropping the rest lets this return
    done = []
    threads.for_each(iter(range(10)), done.append)
    assert sorted(done) == list(range(10))


def test_what_a_failed_item_held_is_free_once_the_error_is_handled():
    """Tensors on a GPU, before the next attempt with a smaller batch."""

    class Tensor:
        pass

    held = []

    def work(_):
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        raise MemoryError

    threads = threads_of(2)
    gc.disable()
    try:
        with suppress(MemoryError):
            threads.for_each(iter(range(9)), work)
        meet = threading.Barrier(2, timeout=10)
        threads.for_each(iter(range(2)), lambda _: meet.wait())  # both threads are through with the failed items
        assert [reference() for reference in held] == [None] * len(held)
    finally:
        gc.enable()


def test_calls_of_several_threads_do_not_mix():
    pool, found = threads_of(2), {}

    def call(name):
        mine = found.setdefault(name, [])
        pool.for_each(iter(range(name, name + 50)), mine.append)

    threads = [threading.Thread(target=call, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: sorted(items) for name, items in found.items()} == {
        100 * number: list(range(100 * number, 100 * number + 50)) for number in range(4)
    }
