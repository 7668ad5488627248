"""The openai package's asynchronous client without its own retries: the budget must see every request."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from vecfill.config.api import address_of, fields_in
from vecfill.config.model import Model
from vecfill.encode.api.api_key import ApiKey
from vecfill.encode.api.vector_format import Format, VectorFormat
from vecfill.encode.proxies import check_proxies

CONNECT_S = 10.0
"""Seconds to connect at most; ``request_timeout`` limits the whole request."""

AZURE_PARAMETER = "api-version"
"""Azure's addresses have it; Azure takes the key in a header of its own."""


class Client:
    """Sends requests for embeddings. We parse the answers: the client's own parser trusts their order.

    Attributes:
        key: the API's key.
        format: how the API is asked to encode vectors.
    """

    def __init__(self, model: Model) -> None:
        import openai

        check_proxies()
        api, dimensions = model.api, model.truncate_dim
        self.key = ApiKey(api.key, api.key_command)
        self.format = VectorFormat(api.encoding_format)
        self._name, self._timeout = model.api_name, api.request_timeout
        self._dimensions: dict[str, Any] = {} if dimensions is None else {"dimensions": dimensions}
        self._row_fields = fields_in(api.fields)
        self._query_fields = self._row_fields | fields_in(api.query_fields)
        base_url, self._query = address_of(api.url)
        self._client = openai.AsyncOpenAI(
            api_key=self.key.get,
            base_url=base_url,
            default_query=self._query,
            max_retries=0,
            timeout=openai.Timeout(api.request_timeout, connect=min(CONNECT_S, api.request_timeout)),
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False,  # a redirect is a request not budgeted
                verify=urlsplit(base_url or "").scheme != "http",  # the certificates, which take 25 ms to read
            ),
        )

    async def send(self, texts: list[str], encoding_format: Format, *, is_query: bool) -> Any:
        """Sends one request and returns the ``httpx.Response``.

        Raises:
            openai.APIError: the server refused, or the connection broke.
            TimeoutError: the answer was not complete in time; the client's own timeout restarts with each byte.
        """
        async with asyncio.timeout(self._timeout):
            raw = await self._client.embeddings.with_raw_response.create(
                model=self._name,
                input=texts,
                encoding_format=encoding_format,
                extra_body=self._query_fields if is_query else self._row_fields,
                extra_headers={"api-key": self.key.secret} if AZURE_PARAMETER in self._query else None,
                **self._dimensions,
            )
        return raw.http_response

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()
