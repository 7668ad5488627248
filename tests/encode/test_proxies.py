"""Proxies of the environment that the HTTP client cannot use are named, for the hub and for an API."""

from __future__ import annotations

import pytest
from tests.tables import make_docs

from vecfill.encode.proxies import check_proxies
from vecfill.errors import ConfigError

HUB = ("-m", "nobody/has-this-model")
API = ("-m", "openai:m", "--base-url", "http://127.0.0.1:9/v1", "--price-per-million", "1")


@pytest.mark.parametrize("model", [HUB, API], ids=["hub", "api"])
def test_a_run_names_the_variable_and_no_secret(connect, database, vecfill, monkeypatch, model):
    make_docs(connect, 3)
    monkeypatch.setenv("ALL_PROXY", "socks5://u:sekret@127.0.0.1:9")
    monkeypatch.setenv("VECFILL_API_KEY", "key")
    ended = vecfill("run", "-d", database, "-t", "docs", "--text", "title", "--engine", "inline", *model)
    assert ended.code == 2
    assert "ALL_PROXY names a SOCKS proxy, which needs the package socksio: pip install socksio" in ended.err
    assert "sekret" not in ended.err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            ("HTTPS_PROXY", "foo://x"),
            ("https_proxy", "http://"),
            ("ALL_PROXY", "://x"),
            ("HTTPS_PROXY", "http://[half"),
        ],
        *[("HTTP_PROXY", "h:port"), ("https_proxy", "http://u:p@h:99999"), ("HTTP_PROXY", "http://:3128")],
    ],
)
def test_no_proxy_at_all(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} names no proxy that vecfill can use"):
        check_proxies({name: value})


@pytest.mark.parametrize("value", ["http://u:p@h:1", "HTTPS://h", "h:1", "http://[::1]:1/", ""])
def test_what_the_client_can_use(value):
    check_proxies({"HTTPS_PROXY": value, "all_proxy": value})
