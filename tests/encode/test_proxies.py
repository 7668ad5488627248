"""Proxies of the environment: what is wrong is said before a byte is sent, and never with its password."""

from __future__ import annotations

import pytest

from vecfill.config.api import ApiOptions
from vecfill.config.model import Model
from vecfill.encode.model_files import dimension_of
from vecfill.encode.model_location import locate_model
from vecfill.encode.proxies import check_proxies
from vecfill.errors import ConfigError

API = Model(name="openai:some", api=ApiOptions(key="sk-none"))
HUB = Model(name="nobody/has-this-model")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("use", [lambda: locate_model(API), lambda: dimension_of(HUB)], ids=["API", "hub"])
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            "ALL_PROXY",
            "socks5://me:sekret@127.0.0.1:1",
            "ALL_PROXY names a SOCKS proxy, which needs the package socksio",
        ),
        ("all_proxy", "socks5h://127.0.0.1:1", "all_proxy names a SOCKS proxy"),
        ("HTTPS_PROXY", "http://me:sekret@[half", "HTTPS_PROXY is not the address of a proxy"),
        ("HTTPS_PROXY", "127.0.0.1:sekret", "HTTPS_PROXY is not the address of a proxy"),
        ("https_proxy", "http://me:sekret@127.0.0.1:99999", "https_proxy is not the address of a proxy"),
        ("HTTP_PROXY", "ftp://127.0.0.1:1", "HTTP_PROXY is not the address of a proxy"),
        ("HTTP_PROXY", "socks4://127.0.0.1:1", "HTTP_PROXY is not the address of a proxy"),
        ("ALL_PROXY", "http://:3128", "ALL_PROXY is not the address of a proxy"),
    ],
)
def test_a_proxy_that_cannot_work_is_named_without_its_password(monkeypatch, variable, value, said, *, use):
    monkeypatch.setattr("vecfill.encode.proxies.find_spec", lambda _: None)  # this machine may have the package
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as error:
        use()
    assert str(error.value).startswith(said)
    assert f"unset {variable}" in str(error.value)
    assert "sekret" not in str(error.value)


@pytest.mark.parametrize("value", ["http://me:pw@proxy:3128", "proxy:3128", "https://[::1]:3128/", "socks5://h", ""])
def test_a_proxy_that_may_work_is_left_to_the_client(monkeypatch, value):
    monkeypatch.setattr("vecfill.encode.proxies.find_spec", lambda _: "there")
    monkeypatch.setenv("HTTPS_PROXY", value)
    check_proxies()
