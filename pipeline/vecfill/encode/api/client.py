"""The openai package's asynchronous client, with its own retries off: every attempt is ours to see, count and pay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vecfill.config.api import ApiOptions
from vecfill.encode.api.key import Key
from vecfill.encode.api.usage import Meter

CONNECT_S = 10.0
"""Seconds until a connection stands; ``request_timeout`` bounds the whole."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """A body as the server sent it, ``elapsed_s`` after the request was sent and at ``at`` of ``time.perf_counter``."""

    body: bytes
    headers: Mapping[str, str]
    elapsed_s: float
    at: float


class Client:
    """Sends requests for embeddings. The client's own way to read answers is not used: it trusts their order."""

    def __init__(self, name: str, api: ApiOptions, dimensions: int | None, meter: Meter) -> None:
        import openai

        self.key = Key(api.key, api.key_command)
        self.encoding: Literal["base64", "float"] = "base64"
        self._name, self._meter, self._timeout = name, meter, api.request_timeout
        self._more: dict[str, Any] = {} if dimensions is None else {"dimensions": dimensions}
        self._client = openai.AsyncOpenAI(
            api_key=self.key.get,
            base_url=api.url,
            max_retries=0,
            timeout=openai.Timeout(api.request_timeout, connect=min(CONNECT_S, api.request_timeout)),
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),  # it would ask again unseen and unpaid
        )

    async def send(self, texts: list[str]) -> Response:
        """Sends one request.

        Raises:
            openai.APIError: the server's refusal, or a connection that broke.
            TimeoutError: the answer was not whole in time; the client's own time-out starts anew with each byte.
        """
        from openai import APIStatusError

        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                raw = await self._client.embeddings.with_raw_response.create(
                    model=self._name, input=texts, encoding_format=self.encoding, **self._more
                )
        except APIStatusError as error:
            self._count(error.response)
            raise
        found, now = raw.http_response, time.perf_counter()
        self._count(found)
        return Response(body=found.content, headers=found.headers, elapsed_s=now - started, at=now)

    def _count(self, found: Any) -> None:
        self._meter.add(bytes_sent=len(found.request.content), bytes_received=found.num_bytes_downloaded)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()
