// Drives the TypeScript SDK 1.x client over HTTP+SSE or Streamable HTTP.
//
// Run it with NODE_EXTRA_CA_CERTS naming the certificate to trust; `../drive` does.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
  ResourceUpdatedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";

import { readArguments, runPlan, textOf } from "./plan.mjs";

function answerTheServer(client, plan, heard) {
  client.setRequestHandler(CreateMessageRequestSchema, (request) => {
    heard.note("sampling");
    const asked = textOf([request.params.messages[0].content].flat());
    return { role: "assistant", model: "test-model", content: { type: "text", text: `sampled <${asked}>` } };
  });
  client.setRequestHandler(ElicitRequestSchema, () => {
    heard.note("elicitation");
    return { action: "accept", content: plan.elicited ?? {} };
  });
  client.setRequestHandler(ListRootsRequestSchema, () => {
    heard.note("roots");
    return { roots: plan.roots ?? [] };
  });
  client.setNotificationHandler(LoggingMessageNotificationSchema, () => heard.note("logs"));
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, () => heard.note("updates"));
}

function transportTo({ url, transport, key }) {
  const requestInit = { headers: { Authorization: `Bearer ${key}` } };
  return transport === "sse"
    ? new SSEClientTransport(new URL(url), { requestInit })
    : new StreamableHTTPClientTransport(new URL(url), { requestInit });
}

async function pages(ask, key) {
  const all = [];
  let cursor;
  do {
    const page = await ask(cursor === undefined ? undefined : { cursor });
    all.push(...page[key]);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return all;
}

async function open(args, heard) {
  const client = new Client(
    { name: "gatehouse-test-typescript1", version: "1.0.0" },
    { capabilities: { sampling: {}, elicitation: {}, roots: { listChanged: true } } },
  );
  answerTheServer(client, args.plan, heard);
  const failures = [];
  client.onerror = (error) => failures.push(error);
  const transport = transportTo(args);
  await client.connect(transport);

  return {
    cannot: [],
    mayLoseLastProgress: true,
    about: async () => ({
      server: client.getServerVersion().name,
      protocol: transport.protocolVersion ?? transport._protocolVersion,
      session: args.transport === "sse" ? "in the endpoint" : Boolean(transport.sessionId),
    }),
    tools: async () => (await pages((p) => client.listTools(p), "tools")).map((tool) => tool.name),
    call: async (name, input, onprogress) => {
      const result = await client.callTool({ name, arguments: input }, undefined, { onprogress: onprogress && ((p) => onprogress(p.progress)) });
      return { text: textOf(result.content), isError: Boolean(result.isError) };
    },
    resources: async () => (await pages((p) => client.listResources(p), "resources")).map((resource) => resource.uri),
    read: async (uri) => textOf((await client.readResource({ uri })).contents),
    prompts: async () => (await pages((p) => client.listPrompts(p), "prompts")).map((prompt) => prompt.name),
    prompt: async (name, input) =>
      textOf((await client.getPrompt({ name, arguments: input })).messages.map((message) => message.content)),
    complete: async (prompt, name, value) =>
      (await client.complete({ ref: { type: "ref/prompt", name: prompt }, argument: { name, value } })).completion.values,
    ping: () => client.ping(),
    level: (level) => client.setLoggingLevel(level),
    subscribe: (uri) => client.subscribeResource({ uri }),
    cancel: async (name, input) => {
      const abort = new AbortController();
      const call = client.callTool({ name, arguments: input }, undefined, {
        signal: abort.signal,
        onprogress: () => abort.abort("the test cancels"),
      });
      const outcome = await call.then(
        () => "finished",
        (error) => String(error),
      );
      if (!outcome.includes("the test cancels")) throw new Error(`the cancelled call ended as: ${outcome}`);
      await client.ping();
    },
    close: async () => {
      if (args.transport === "http") await transport.terminateSession();
      await client.close();
      // A last progress notification that came in one chunk with its answer is such an error too.
      const unexpected = failures.filter((error) => !/abort|terminated|unknown token/i.test(String(error)));
      if (unexpected.length) throw new Error(`the transport reported: ${unexpected.join("; ")}`);
    },
  };
}

await runPlan("typescript1", readArguments(), open);
