"""Runs a plan (see ../README.md) against one client SDK and prints one JSON line of results.

Knows nothing of any SDK: a driver hands it an object with the operations of `Sdk`, and says in
`cannot` which of them its client does not have.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from typing import Any, Callable, Protocol

WAIT = 20.0
"""Seconds that a notification which is due may take."""


class Heard:
    """What callbacks and notifications have arrived so far."""

    def __init__(self) -> None:
        self.counts = {"sampling": 0, "elicitation": 0, "roots": 0, "logs": 0, "updates": 0}
        self._changed = asyncio.Condition()

    async def note(self, kind: str) -> None:
        async with self._changed:
            self.counts[kind] += 1
            self._changed.notify_all()

    async def reach(self, kind: str, since: int, count: int) -> None:
        """Returns once `kind` was heard `count` more times than `since`."""
        async with self._changed:
            try:
                await asyncio.wait_for(
                    self._changed.wait_for(lambda: self.counts[kind] - since >= count), WAIT
                )
            except TimeoutError:
                raise AssertionError(f"heard {self.counts[kind] - since} of {count} {kind}") from None


class Sdk(Protocol):
    """What a driver's client can do."""

    cannot: list[str]

    def about(self) -> dict[str, Any]: ...
    async def tools(self) -> list[str]: ...
    async def call(
        self, name: str, arguments: dict[str, Any], on_progress: Callable[[float], None] | None = None
    ) -> tuple[str, bool]: ...
    async def resources(self) -> list[str]: ...
    async def read(self, uri: str) -> str: ...
    async def prompts(self) -> list[str]: ...
    async def prompt(self, name: str, arguments: dict[str, str]) -> str: ...
    async def complete(self, prompt: str, argument: str, value: str) -> list[str]: ...
    async def ping(self) -> None: ...
    async def level(self, level: str) -> None: ...
    async def subscribe(self, uri: str) -> None: ...
    async def cancel(self, name: str, arguments: dict[str, Any]) -> None: ...


def read_arguments() -> argparse.Namespace:
    """The arguments that every driver takes; `--ca` becomes the only authority that is trusted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--transport", required=True, choices=["sse", "http"])
    parser.add_argument("--key", required=True)
    parser.add_argument("--ca")
    parser.add_argument("--plan", required=True)
    args = parser.parse_args()
    if args.ca:
        os.environ["SSL_CERT_FILE"] = args.ca
    if args.plan.startswith("{"):
        args.plan = json.loads(args.plan)
    else:
        with open(args.plan, encoding="utf-8") as file:
            args.plan = json.load(file)
    return args


def compare(text: str, want: dict[str, Any] | None) -> None:
    """Raises unless `text` is what `want` says."""
    want = want or {}
    if "equals" in want and text != want["equals"]:
        raise AssertionError(f"want exactly {want['equals']!r}, got {text!r}")
    for part in want.get("contains", []):
        if part not in text:
            raise AssertionError(f"want {part!r} in {text[:2000]!r}")


def text_of(parts: list[Any]) -> str:
    """The text of a tool result, resource or prompt: its text parts, one a line."""
    texts = []
    for part in parts:
        resource = getattr(part, "resource", None)
        texts.append(
            getattr(part, "text", None)
            or (resource is not None and getattr(resource, "text", None))
            or getattr(part, "blob", None)
            or ""
        )
    return "\n".join(text for text in texts if text)


def includes_all(have: list[str], want: list[str], what: str) -> None:
    absent = [name for name in want if name not in have]
    if absent:
        raise AssertionError(f"{what} not listed: {absent}; have {have}")


class Steps:
    """One method per kind of step."""

    def __init__(self, sdk: Sdk, heard: Heard) -> None:
        self.sdk = sdk
        self.heard = heard

    async def call(self, step: dict[str, Any]) -> None:
        before = dict(self.heard.counts)
        progress: list[float] = []
        on_progress = progress.append if "progress" in step else None
        try:
            text, is_error = await self.sdk.call(step["name"], step.get("arguments", {}), on_progress)
        except Exception as error:
            if not step.get("fails"):
                raise
            text, is_error = str(error), True
        if is_error != step.get("fails", False):
            raise AssertionError(f"is_error is {is_error}: {text}")
        compare(text, step.get("want"))
        if "progress" in step:
            rising = all(a < b for a, b in zip(progress, progress[1:]))
            if len(progress) != step["progress"] or not rising:
                raise AssertionError(f"want {step['progress']} rising progress notifications, got {progress}")
        for kind, count in step.get("hears", {}).items():
            await self.heard.reach(kind, before[kind], count)
        for kind, count in step.get("asks", {}).items():
            asked = self.heard.counts[kind] - before[kind]
            if asked != count:
                raise AssertionError(f"asked for {kind} {asked} times, want {count}")

    async def tools(self, step: dict[str, Any]) -> None:
        includes_all(await self.sdk.tools(), step["want"], "tools")

    async def resources(self, step: dict[str, Any]) -> None:
        includes_all(await self.sdk.resources(), step["want"], "resources")

    async def read(self, step: dict[str, Any]) -> None:
        compare(await self.sdk.read(step["uri"]), step.get("want"))

    async def prompts(self, step: dict[str, Any]) -> None:
        includes_all(await self.sdk.prompts(), step["want"], "prompts")

    async def prompt(self, step: dict[str, Any]) -> None:
        compare(await self.sdk.prompt(step["name"], step.get("arguments", {})), step.get("want"))

    async def complete(self, step: dict[str, Any]) -> None:
        values = await self.sdk.complete(step["prompt"], step["argument"], step["value"])
        includes_all(values, step["want"], "completions")

    async def ping(self, _step: dict[str, Any]) -> None:
        await self.sdk.ping()

    async def level(self, step: dict[str, Any]) -> None:
        await self.sdk.level(step["level"])

    async def subscribe(self, step: dict[str, Any]) -> None:
        await self.sdk.subscribe(step["uri"])

    async def concurrent(self, step: dict[str, Any]) -> None:
        texts = [f"{i}-{'x' * (i * 37)}-{random.random()}" for i in range(step["count"])]
        answers = await asyncio.gather(
            *(self.sdk.call(step["name"], {step["argument"]: text}) for text in texts)
        )
        for text, (answer, _) in zip(texts, answers):
            compare(answer, {"equals": step["prefix"] + text + step.get("suffix", "")})

    async def cancel(self, step: dict[str, Any]) -> None:
        await self.sdk.cancel(step["name"], step.get("arguments", {}))


async def run_steps(sdk: Sdk, plan: dict[str, Any], heard: Heard, result: dict[str, Any]) -> None:
    """Runs the plan in an open session, noting in `result` what was done and what was not."""
    result.update(sdk.about())
    if plan["server"] not in result["server"]:
        raise AssertionError(f"the server calls itself {result['server']}, want {plan['server']}")
    steps = Steps(sdk, heard)
    for step in plan["steps"]:
        label = f"{step['do']} {step.get('name', step.get('uri', ''))}".strip()
        needs = [step["do"], *step.get("needs", []), *step.get("hears", {}), *step.get("asks", {})]
        lacks = [need for need in needs + ["progress"] * ("progress" in step) if need in sdk.cannot]
        if lacks:
            result["skipped"].append(f"{label} ({', '.join(lacks)})")
            continue
        started = time.monotonic()
        try:
            await getattr(steps, step["do"])(step)
        except Exception as error:
            raise AssertionError(f"{label}: {describe(error)}") from error
        result["steps"].append(f"{label} {(time.monotonic() - started) * 1000:.0f}ms")


def describe(error: BaseException) -> str:
    """An error with everything that it groups or follows from, on one line."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(inner) for inner in error.exceptions)
    text = f"{type(error).__name__}: {error}"
    return f"{text} <- {describe(error.__cause__)}" if error.__cause__ else text


def run_plan(driver: str, args: argparse.Namespace, session: Callable[..., Any]) -> None:
    """Runs `session(args, heard, result)` and exits with 0 when all passed."""
    result: dict[str, Any] = {"driver": driver, "transport": args.transport, "ok": False, "steps": [], "skipped": []}

    async def run() -> None:
        heard = Heard()
        try:
            await session(args, heard, result)
            result["ok"] = True
        except BaseException as error:  # noqa: BLE001 - the report is the one place that tells of it
            result["error"] = describe(error)
        result["heard"] = heard.counts

    asyncio.run(run())
    print(json.dumps(result), flush=True)
    sys.exit(0 if result["ok"] else 1)
