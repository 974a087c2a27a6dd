"""Walks from a bare 401 to a session with the Python SDK's own OAuth client.

    python signin.py URL sse|http TOOL...      prints one JSON line: what happened
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from urllib.parse import parse_qs, urljoin, urlparse

try:
    import httpx2 as httpx  # what the SDK 2.x brings
except ImportError:
    import httpx
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.auth import OAuthClientMetadata

REDIRECT = "http://127.0.0.1:1/callback"
URL, KIND, *TOOLS = sys.argv[1:]
SEEN: dict[str, list[Any]] = {"scopes": [], "resources": [], "answers": []}


class Store:
    """Keeps what the client is given, in memory."""

    tokens: Any = None
    client: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info


LED_BACK: dict[str, str] = {}


async def browse(url: str) -> None:
    """What a browser does: follows redirects with cookies until they lead back to the client."""
    asked = parse_qs(urlparse(url).query)
    SEEN["scopes"].append(asked.get("scope", [None])[0])
    SEEN["resources"].append(asked.get("resource", [None])[0])
    async with httpx.AsyncClient() as browser:
        for _ in range(20):
            if url.startswith(REDIRECT):
                LED_BACK.clear()
                LED_BACK.update({name: values[0] for name, values in parse_qs(urlparse(url).query).items()})
                return
            response = await browser.get(url)
            if "location" not in response.headers:
                raise RuntimeError(f"{response.status_code} at {url}: {response.text}")
            url = urljoin(url, response.headers["location"])
    raise RuntimeError("too many redirects")


async def led_back() -> Any:
    try:
        # Newer versions of the SDK want a name for each part.
        from mcp.client.auth import AuthorizationCodeResult

        return AuthorizationCodeResult(**{k: v for k, v in LED_BACK.items() if k in ("code", "state", "iss")})
    except ImportError:
        return LED_BACK["code"], LED_BACK.get("state")


async def main() -> None:
    auth = OAuthClientProvider(
        server_url=URL,
        client_metadata=OAuthClientMetadata.model_validate(
            {
                "client_name": "gatehouse-test",
                "redirect_uris": [REDIRECT],
                "grant_types": ["authorization_code", "refresh_token"],
                "response_types": ["code"],
                "token_endpoint_auth_method": "none",
            }
        ),
        storage=Store(),
        redirect_handler=browse,
        callback_handler=led_back,
    )
    if KIND == "sse":
        transport: Any = sse_client(URL, auth=auth)
    else:
        transport = streamable_http_client(URL, http_client=create_mcp_http_client(auth=auth))
    async with transport as streams, ClientSession(streams[0], streams[1]) as session:
        await session.initialize()
        for tool in TOOLS:
            result = await session.call_tool(tool, {"text": "hello"})
            content: Any = result.content[0]
            SEEN["answers"].append(content.text)
    print(json.dumps(SEEN))


asyncio.run(main())
