"""Drives the Python SDK 1.x client over HTTP+SSE or Streamable HTTP."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

from plan import Heard, read_arguments, run_plan, run_steps, text_of

ARGUMENTS = read_arguments()

from mcp import ClientSession, types  # noqa: E402 - after SSL_CERT_FILE is set
from mcp.client.sse import sse_client  # noqa: E402
from mcp.client.streamable_http import streamable_http_client  # noqa: E402
from mcp.shared._httpx_utils import create_mcp_http_client  # noqa: E402
from pydantic import AnyUrl  # noqa: E402


class Sdk:
    """The operations of a plan on a `ClientSession`."""

    cannot: list[str] = []

    def __init__(self, session: ClientSession, started: types.InitializeResult, session_id: Any) -> None:
        self.session = session
        self.started = started
        self.session_id = session_id

    def about(self) -> dict[str, Any]:
        return {
            "server": self.started.serverInfo.name,
            "protocol": self.started.protocolVersion,
            "session": self.session_id(),
        }

    async def pages(self, ask: Any, key: str) -> list[Any]:
        everything: list[Any] = []
        params = None
        while True:
            page = await ask(params=params)
            everything += getattr(page, key)
            if page.nextCursor is None:
                return everything
            params = types.PaginatedRequestParams(cursor=page.nextCursor)

    async def tools(self) -> list[str]:
        return [tool.name for tool in await self.pages(self.session.list_tools, "tools")]

    async def call(self, name: str, arguments: dict[str, Any], on_progress: Any = None) -> tuple[str, bool]:
        async def progressed(progress: float, _total: float | None, _message: str | None) -> None:
            on_progress(progress)

        result = await self.session.call_tool(name, arguments, progress_callback=progressed if on_progress else None)
        return text_of(result.content), result.isError

    async def resources(self) -> list[str]:
        return [str(resource.uri) for resource in await self.pages(self.session.list_resources, "resources")]

    async def read(self, uri: str) -> str:
        return text_of((await self.session.read_resource(AnyUrl(uri))).contents)

    async def prompts(self) -> list[str]:
        return [prompt.name for prompt in await self.pages(self.session.list_prompts, "prompts")]

    async def prompt(self, name: str, arguments: dict[str, str]) -> str:
        result = await self.session.get_prompt(name, arguments)
        return text_of([message.content for message in result.messages])

    async def complete(self, prompt: str, argument: str, value: str) -> list[str]:
        reference = types.PromptReference(type="ref/prompt", name=prompt)
        result = await self.session.complete(reference, {"name": argument, "value": value})
        return result.completion.values

    async def ping(self) -> None:
        await self.session.send_ping()

    async def level(self, level: Any) -> None:
        await self.session.set_logging_level(level)

    async def subscribe(self, uri: str) -> None:
        await self.session.subscribe_resource(AnyUrl(uri))

    async def cancel(self, name: str, arguments: dict[str, Any]) -> None:
        """This SDK has no call that cancels: the notification is sent by hand, as its users do."""
        progressed = asyncio.Event()

        async def on_progress(*_: Any) -> None:
            progressed.set()

        request_id = self.session._request_id
        call = asyncio.create_task(self.session.call_tool(name, arguments, progress_callback=on_progress))
        await asyncio.wait_for(progressed.wait(), 20)
        notification = types.CancelledNotification(
            params=types.CancelledNotificationParams(requestId=request_id, reason="the test cancels")
        )
        await self.session.send_notification(types.ClientNotification(notification))
        call.cancel()
        try:
            await call
        except asyncio.CancelledError:
            await self.session.send_ping()
            return
        raise AssertionError("the cancelled call came to an end of its own")


def callbacks(plan: dict[str, Any], heard: Heard) -> dict[str, Any]:
    """What this client answers to the server."""

    async def sampling(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        await heard.note("sampling")
        asked = text_of(params.messages[0].content_as_list)
        content = types.TextContent(type="text", text=f"sampled <{asked}>")
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
        if isinstance(getattr(message, "root", None), types.ResourceUpdatedNotification):
            await heard.note("updates")

    return {
        "sampling_callback": sampling,
        "elicitation_callback": elicitation,
        "list_roots_callback": roots,
        "logging_callback": logging,
        "message_handler": message,
    }


@asynccontextmanager
async def connected(args: Any) -> Any:
    headers = {"Authorization": f"Bearer {args.key}"}
    if args.transport == "sse":
        seen: list[str] = []
        async with sse_client(args.url, headers=headers, on_session_created=seen.append) as (read, write):
            yield read, write, lambda: bool(seen)
    else:
        async with create_mcp_http_client(headers=headers) as http:
            async with streamable_http_client(args.url, http_client=http) as (read, write, session_id):
                yield read, write, lambda: bool(session_id())


async def session(args: Any, heard: Heard, result: dict[str, Any]) -> None:
    async with connected(args) as (read, write, session_id):
        async with ClientSession(read, write, **callbacks(args.plan, heard)) as client:
            started = await client.initialize()
            await run_steps(Sdk(client, started, session_id), args.plan, heard, result)


run_plan("python1", ARGUMENTS, session)
