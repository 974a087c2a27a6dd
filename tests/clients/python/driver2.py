"""Drives the Python SDK 2.x client over HTTP+SSE or Streamable HTTP, as it comes (`mode="auto"`)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from plan import Heard, read_arguments, run_plan, run_steps, text_of

ARGUMENTS = read_arguments()

from mcp import Client, types  # noqa: E402 - after SSL_CERT_FILE is set
from mcp.client.sse import sse_client  # noqa: E402
from mcp.client.streamable_http import streamable_http_client  # noqa: E402
from mcp.shared._httpx_utils import create_mcp_http_client  # noqa: E402
from mcp_types import LOG_LEVEL_META_KEY  # noqa: E402
from mcp_types.version import MODERN_PROTOCOL_VERSIONS  # noqa: E402


class Sdk:
    """The operations of a plan on a `Client`; `stack` closes what it opens."""

    def __init__(self, client: Client, stack: AsyncExitStack) -> None:
        self.client = client
        self.stack = stack
        self.modern = client.protocol_version in MODERN_PROTOCOL_VERSIONS
        self.cannot = ["session"] if self.modern else []
        # What a session remembers, every modern call says.
        self.meta: Any = None

    def about(self) -> dict[str, Any]:
        info = self.client.server_info
        return {"server": info.name if info else "", "protocol": self.client.protocol_version}

    async def pages(self, ask: Any, key: str) -> list[Any]:
        everything: list[Any] = []
        cursor = None
        while True:
            page = await ask(cursor=cursor)
            everything += getattr(page, key)
            cursor = page.next_cursor
            if cursor is None:
                return everything

    async def tools(self) -> list[str]:
        return [tool.name for tool in await self.pages(self.client.list_tools, "tools")]

    async def call(self, name: str, arguments: dict[str, Any], on_progress: Any = None) -> tuple[str, bool]:
        async def progressed(progress: float, _total: float | None, _message: str | None) -> None:
            on_progress(progress)

        result = await self.client.call_tool(
            name, arguments, progress_callback=progressed if on_progress else None, meta=self.meta
        )
        return text_of(result.content), bool(result.is_error)

    async def resources(self) -> list[str]:
        return [str(resource.uri) for resource in await self.pages(self.client.list_resources, "resources")]

    async def read(self, uri: str) -> str:
        return text_of((await self.client.read_resource(uri)).contents)

    async def prompts(self) -> list[str]:
        return [prompt.name for prompt in await self.pages(self.client.list_prompts, "prompts")]

    async def prompt(self, name: str, arguments: dict[str, str]) -> str:
        result = await self.client.get_prompt(name, arguments)
        return text_of([message.content for message in result.messages])

    async def complete(self, prompt: str, argument: str, value: str) -> list[str]:
        reference = types.PromptReference(name=prompt)
        result = await self.client.complete(reference, {"name": argument, "value": value})
        return result.completion.values

    async def ping(self) -> None:
        if self.modern:
            await self.client.list_tools(cache_mode="bypass")
        else:
            await self.client.send_ping()

    async def level(self, level: Any) -> None:
        if self.modern:
            self.meta = {LOG_LEVEL_META_KEY: level}
        else:
            await self.client.set_logging_level(level)

    async def subscribe(self, uri: str) -> None:
        if not self.modern:
            await self.client.subscribe_resource(uri)
            return
        subscription = await self.stack.enter_async_context(self.client.listen(resource_subscriptions=[uri]))
        if uri not in (subscription.honored.resource_subscriptions or []):
            raise AssertionError(f"the subscription was not honored: {subscription.honored}")

    async def cancel(self, name: str, arguments: dict[str, Any]) -> None:
        progressed = asyncio.Event()

        async def on_progress(*_: Any) -> None:
            progressed.set()

        call = asyncio.create_task(self.client.call_tool(name, arguments, progress_callback=on_progress))
        await asyncio.wait_for(progressed.wait(), 20)
        call.cancel()
        try:
            await call
        except asyncio.CancelledError:
            await self.ping()
            return
        raise AssertionError("the cancelled call came to an end of its own")


def callbacks(plan: dict[str, Any], heard: Heard) -> dict[str, Any]:
    """What this client answers to the server."""

    async def sampling(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        await heard.note("sampling")
        asked = text_of(params.messages[0].content_as_list)
        content = types.TextContent(text=f"sampled <{asked}>")
        return types.CreateMessageResult(role="assistant", content=content, model="test-model")

    async def elicitation(_context: Any, _params: Any) -> types.ElicitResult:
        await heard.note("elicitation")
        return types.ElicitResult(action="accept", content=plan.get("elicited", {}))

    async def roots(_context: Any) -> types.ListRootsResult:
        await heard.note("roots")
        return types.ListRootsResult.model_validate({"roots": plan.get("roots", [])})

    async def logging(_params: Any) -> None:
        await heard.note("logs")

    async def message(message: Any) -> None:
        if isinstance(message, Exception):
            raise message
        if isinstance(message, types.ResourceUpdatedNotification):
            await heard.note("updates")

    return {
        "sampling_callback": sampling,
        "elicitation_callback": elicitation,
        "list_roots_callback": roots,
        "logging_callback": logging,
        "message_handler": message,
    }


async def session(args: Any, heard: Heard, result: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {args.key}"}
    async with AsyncExitStack() as stack:
        if args.transport == "sse":
            transport: Any = sse_client(args.url, headers=headers)
        else:
            http = await stack.enter_async_context(create_mcp_http_client(headers=headers))
            transport = streamable_http_client(args.url, http_client=http)
        client = await stack.enter_async_context(Client(transport, **callbacks(args.plan, heard)))
        await run_steps(Sdk(client, stack), args.plan, heard, result)


run_plan("python2", ARGUMENTS, session)
