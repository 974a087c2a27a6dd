"""A server of the Python SDK 2.x that asks its client, in the era of whoever speaks to it first."""

from __future__ import annotations

from typing import Annotated

import anyio
from mcp.server.mcpserver import Context, Elicit, ListRoots, MCPServer, Resolve, Sample
from mcp_types import CreateMessageResult, ListRootsResult, SamplingMessage, TextContent
from pydantic import BaseModel

server = MCPServer("asks", version="1.0.0")


class Person(BaseModel):
    """What the user is asked for."""

    name: str


def ask_name() -> Elicit[Person]:
    return Elicit("What is your name?", Person)


def ask_model(topic: str) -> Sample:
    content = TextContent(text=f"Say something about {topic}")
    return Sample([SamplingMessage(role="user", content=content)], max_tokens=50)


def ask_roots() -> ListRoots:
    return ListRoots()


@server.tool()
def echo(text: str) -> str:
    """Says the text again."""
    return text


@server.tool()
def greet(person: Annotated[Person, Resolve(ask_name)]) -> str:
    """Greets the user by name."""
    return f"Hello, {person.name}!"


@server.tool()
def compose(
    topic: str,
    person: Annotated[Person, Resolve(ask_name)],
    answer: Annotated[CreateMessageResult, Resolve(ask_model)],
    roots: Annotated[ListRootsResult, Resolve(ask_roots)],
) -> str:
    """Asks for everything that can be asked."""
    said = answer.content.text if isinstance(answer.content, TextContent) else "nothing"
    uris = ", ".join(str(root.uri) for root in roots.roots)
    return f"{person.name} on {topic}: {said} ({uris})"


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Counts, and tells how far it is."""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to)
        # Apart, so that a client which handles them out of turn hears them before the answer.
        await anyio.sleep(0.2)
    return f"counted to {to}"


@server.tool()
async def fail() -> str:
    """Fails."""
    raise ValueError("it failed, as it always does")


@server.resource("note://one")
def note() -> str:
    """A note."""
    return "the first note"


@server.prompt()
def ask_about(topic: str) -> str:
    """Asks about a topic."""
    return f"What about {topic}?"


if __name__ == "__main__":
    server.run("stdio")
