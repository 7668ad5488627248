"""The openai package's asynchronous client without its own retries: the budget must see every request."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from vecfill.config.model import Model
from vecfill.encode.api.api_key import ApiKey

CONNECT_S = 10.0
"""Seconds to connect at most; ``request_timeout`` limits the whole request."""


class Client:
    """Sends requests for embeddings. We parse the answers: the client's own parser trusts their order.

    Attributes:
        key: the API's key.
        encoding: how the API is asked to encode vectors.
    """

    def __init__(self, model: Model) -> None:
        import openai

        api, dimensions = model.api, model.truncate_dim
        self.key = ApiKey(api.key, api.key_command)
        self.encoding: Literal["base64", "float"] = "base64"
        self._name, self._timeout = model.api_name, api.request_timeout
        self._extra: dict[str, Any] = {} if dimensions is None else {"dimensions": dimensions}
        self._client = openai.AsyncOpenAI(
            api_key=self.key.get,
            base_url=api.url,
            max_retries=0,
            timeout=openai.Timeout(api.request_timeout, connect=min(CONNECT_S, api.request_timeout)),
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),  # a redirect is a request not budgeted
        )

    async def send(self, texts: list[str]) -> Any:
        """Sends one request and returns the ``httpx.Response``.

        Raises:
            openai.APIError: the server refused, or the connection broke.
            TimeoutError: the answer was not complete in time; the client's own timeout restarts with each byte.
        """
        async with asyncio.timeout(self._timeout):
            raw = await self._client.embeddings.with_raw_response.create(
                model=self._name, input=texts, encoding_format=self.encoding, **self._extra
            )
        return raw.http_response

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()
