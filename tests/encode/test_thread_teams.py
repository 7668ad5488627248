import threading
from itertools import count

import pytest

from vecfill.encode.thread_teams import MOST_TEAMS, Teams


def test_every_piece_once():
    done = []
    Teams(3).each(iter(range(200)), done.append)
    assert sorted(done) == list(range(200))


@pytest.mark.parametrize(
    ("cores", "teams", "threads"), [(1, 1, 1), (2, 2, 1), (12, 6, 2), (MOST_TEAMS * 4, MOST_TEAMS, 4)]
)
def test_cores_are_shared_out(cores, teams, threads):
    import torch

    seen = set()
    meet = threading.Barrier(teams, timeout=10)

    def note(_piece):
        meet.wait()  # passes only where all teams are at work at once
        seen.add((threading.current_thread().name, torch.get_num_threads()))

    Teams(cores).each(iter(range(teams)), note)
    assert len(seen) == teams
    assert {number for _, number in seen} == {threads}


def test_without_cores_to_share_there_is_one_team():
    done = []
    Teams(None).each(iter([1, 2]), lambda piece: done.append((threading.current_thread().name, piece)))
    assert [piece for _, piece in done] == [1, 2]
    assert len({name for name, _ in done}) == 1


def test_an_error_drops_what_was_not_begun_and_the_teams_go_on():
    teams, begun = Teams(2), []

    def work(piece):
        begun.append(piece)
        if piece == 5:
            raise ValueError("five")

    with pytest.raises(ValueError, match="five"):
        teams.each(iter(count()), work)  # endless: only dropping the rest lets this return
    done = []
    teams.each(iter(range(10)), done.append)
    assert sorted(done) == list(range(10))


def test_calls_of_several_threads_do_not_mix():
    teams, found = Teams(2), {}

    def call(name):
        mine = found.setdefault(name, [])
        teams.each(iter(range(name, name + 50)), mine.append)

    threads = [threading.Thread(target=call, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: sorted(pieces) for name, pieces in found.items()} == {
        100 * number: list(range(100 * number, 100 * number + 50)) for number in range(4)
    }
