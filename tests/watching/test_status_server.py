"""Metrics and probes over HTTP: from memory alone, with no secrets, and an answer for whoever asks wrongly."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.ledger.tracked import tracked_docs
from tests.tables import INLINE, add_docs, wait_until
from tests.watching.watched import watched, watching

from vecfill.config.watch import WatchOptions
from vecfill.errors import ConfigError
from vecfill.read.look import Look
from vecfill.watching import status_server, target_state
from vecfill.watching.health import Health
from vecfill.watching.metrics import METRICS
from vecfill.watching.status_server import serving
from vecfill.watching.target_state import AWAY, WATCHING, TargetState


@pytest.fixture
def state():
    return TargetState(target="public.docs", model="hash:8")


@pytest.fixture
def health(state):
    return Health([state])


@pytest.fixture
def port(health):
    with serving(health, "127.0.0.1", 0) as port:
        yield port


def answer(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path)
        found = connection.getresponse()
        return found.status, found.read().decode()


def values(port: int) -> dict[str, float]:
    """Metrics by name and further labels."""
    found = {}
    for family in text_string_to_metric_families(answer(port, "/metrics")[1]):
        for sample in family.samples:
            more = [value for label, value in sample.labels.items() if label not in ("target", "model", "version")]
            found[" ".join([sample.name, *more])] = sample.value
    return found


def test_the_probes_follow_the_state(port, health, state, monkeypatch):
    assert [answer(port, path)[0] for path in ("/healthz", "/readyz")] == [200, 503]
    health.loaded = True
    assert answer(port, "/readyz") == (503, "public.docs: not ready\n")
    state.is_now(WATCHING)
    assert [answer(port, path) for path in ("/healthz", "/readyz")] == [(200, "ok\n")] * 2
    state.waiting = lambda: "the server"
    assert [answer(port, path)[0] for path in ("/healthz", "/readyz")] == [200, 503]
    state.waiting = lambda: "replication"
    assert answer(port, "/readyz")[0] == 200
    state.is_now(AWAY, "a message of the server")
    assert [answer(port, path)[0] for path in ("/healthz", "/readyz")] == [200, 503]
    monkeypatch.setattr(target_state, "STUCK_S", -1.0)
    assert answer(port, "/healthz") == (503, "public.docs: its loop is stuck\n")


def test_every_metric_is_there_by_target_and_model(port, state):
    state.looked(Look(rows=3, oldest_s=5.0))
    state.errors["ServerGoneError"] += 1
    state.waiting, state.succeeded_at, state.lease = lambda: "the server", 1.0, False
    text = answer(port, "/metrics")[1]
    for one in METRICS:
        assert re.search(rf"^# HELP {one.name}(_total)? ", text, re.MULTILINE)
    found = values(port)
    assert (found["vecfill_queue_entries"], found["vecfill_errors_total ServerGoneError"]) == (3, 1)
    assert 5 <= found["vecfill_queue_oldest_seconds"] < 60
    assert found["vecfill_waiting the server"] == 1
    assert "vecfill_coverage_ratio" not in found  # not known yet
    assert text.count('target="public.docs"') == text.count('model="hash:8"')


def test_who_asks_wrongly_gets_an_answer(port):
    asked = {path: answer(port, path)[0] for path in ("/", "/metrics/", "/etc/passwd", "/%00", "/healthz?verbose")}
    assert asked == {"/": 404, "/metrics/": 404, "/etc/passwd": 404, "/%00": 404, "/healthz?verbose": 200}
    methods = {method: answer(port, "/metrics", method)[0] for method in ("POST", "PUT", "DELETE", "HEAD", "TRACE")}
    assert methods == {"POST": 405, "PUT": 405, "DELETE": 405, "HEAD": 200, "TRACE": 501}
    for nonsense in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.sendall(nonsense)
            assert re.match(rb"HTTP/1.0 4\d\d ", client.recv(1 << 16))
    many = b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n"
    for request, status in (
        (many, b"431"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\n\n", b"200"),
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.sendall(request)
            assert client.recv(12) == b"HTTP/1.0 " + status
    with socket.create_connection(("127.0.0.1", port)):  # says nothing, and holds up nobody
        assert answer(port, "/healthz")[0] == 200


@pytest.fixture
def answering():
    """How many threads answer; not those of servers of earlier tests, which go when they like."""
    before = set(threading.enumerate())
    return lambda: sum("process_request_thread" in thread.name for thread in set(threading.enumerate()) - before)


def test_slow_and_many_clients_hold_neither_threads_nor_others(port, answering, monkeypatch):
    monkeypatch.setattr(status_server, "MOST_CLIENTS", 3)
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(3)]
        for client in slow:
            client.sendall(b"GET /metrics HTTP/1.1\r\nX-A: ")
        wait_until(lambda: answering() == 3)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as one_too_many:
            assert one_too_many.recv(1) == b""
        monkeypatch.setattr(status_server, "SLOW_S", 0.0)
        assert [client.recv(1 << 16)[:12] for client in slow] == [b""] * 3
        monkeypatch.setattr(status_server, "SLOW_S", 10.0)
    wait_until(lambda: not answering())
    assert answer(port, "/healthz")[0] == 200


def test_at_its_end_it_leaves_no_client(health, answering):
    with serving(health, "127.0.0.1", 0) as port:
        silent = socket.create_connection(("127.0.0.1", port), timeout=30)
        wait_until(answering)
    with silent:
        assert silent.recv(1) == b""
    wait_until(lambda: not answering())


def test_the_metrics_are_made_once_a_second_at_most(port, state, monkeypatch):
    before = answer(port, "/metrics")[1]
    state.queued = 7
    assert answer(port, "/metrics")[1] == before
    monkeypatch.setattr(status_server, "FRESH_S", -1.0)
    assert values(port)["vecfill_queue_entries"] == 7


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
def test_an_address_that_cannot_be_used_is_refused_in_one_line(port, health, host):
    reason = "Address already in use" if host == "127.0.0.1" else "Cannot assign requested address"
    message = f"--metrics {port} on --metrics-host {host}: {reason}: "
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}.*$"), serving(health, host, port):
        pass


@pytest.mark.slow
def test_a_watch_counts_what_it_does_and_scrapes_run_no_sql(database, connect, caplog):
    caplog.set_level("INFO", "vecfill")
    tracked_docs(connect, database, 5, filled=False)
    with watching(watched(database, options=INLINE), options=WatchOptions(metrics=0)):
        port = wait_until(lambda: next((one.port for one in caplog.records if hasattr(one, "port")), None))
        wait_until(lambda: answer(port, "/readyz")[0] == 200)
        wait_until(lambda: values(port)["vecfill_rows_total updated"] == 5)
        add_docs(connect, 6, 6)
        wait_until(lambda: values(port)["vecfill_rows_total updated"] == 6)
        found = wait_until(lambda: (now := values(port))["vecfill_queue_entries"] == 0 and now)
    assert (found["vecfill_lease_held"], found["vecfill_coverage_ratio"]) == (1, 1)
    assert found["vecfill_target_phase watching"] == 1
    assert found["vecfill_drains_total"] >= 2
    assert found["vecfill_stage_seconds_total write"] > 0
