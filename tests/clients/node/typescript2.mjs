// Drives the TypeScript SDK 2.x client in its mode `auto`: it probes with server/discover first.
//
// Run it with NODE_EXTRA_CA_CERTS naming the certificate to trust; `../drive` does.

import { Client, LOG_LEVEL_META_KEY, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

import { readArguments, runPlan, textOf } from "./plan.mjs";

function answerTheServer(client, plan, heard) {
  client.setRequestHandler("sampling/createMessage", (request) => {
    heard.note("sampling");
    const asked = textOf([request.params.messages[0].content].flat());
    return { role: "assistant", model: "test-model", content: { type: "text", text: `sampled <${asked}>` } };
  });
  client.setRequestHandler("elicitation/create", () => {
    heard.note("elicitation");
    return { action: "accept", content: plan.elicited ?? {} };
  });
  client.setRequestHandler("roots/list", () => {
    heard.note("roots");
    return { roots: plan.roots ?? [] };
  });
  client.setNotificationHandler("notifications/message", () => heard.note("logs"));
  client.setNotificationHandler("notifications/resources/updated", () => heard.note("updates"));
}

async function open(args, heard) {
  const client = new Client(
    { name: "gatehouse-test-typescript2", version: "1.0.0" },
    {
      capabilities: { sampling: {}, elicitation: {}, roots: { listChanged: true } },
      versionNegotiation: { mode: "auto" },
    },
  );
  answerTheServer(client, args.plan, heard);
  const failures = [];
  client.onerror = (error) => failures.push(error);
  const requestInit = { headers: { Authorization: `Bearer ${args.key}` } };
  const transport = new StreamableHTTPClientTransport(new URL(args.url), { requestInit });
  await client.connect(transport);

  const modern = client.getProtocolEra() === "modern";
  const subscriptions = [];
  let level;
  // What a session remembers, every modern call says.
  const meta = () => (modern && level ? { _meta: { [LOG_LEVEL_META_KEY]: level } } : {});
  const call = (name, input, options) => client.callTool({ name, arguments: input, ...meta() }, options);
  const isAlive = () => (modern ? client.listTools(undefined, { cacheMode: "bypass" }) : client.ping());

  return {
    cannot: modern ? ["session"] : [],
    mayLoseLastProgress: true,
    about: async () => ({
      server: client.getServerVersion()?.name,
      protocol: client.getNegotiatedProtocolVersion(),
      session: Boolean(transport.sessionId),
    }),
    tools: async () => (await client.listTools()).tools.map((tool) => tool.name),
    call: async (name, input, onprogress) => {
      // When it brings input this SDK tells the first notification of its second request twice; on the wire it is there once.
      let last;
      const told = ({ progress }) => {
        if (progress !== last) onprogress(progress);
        last = progress;
      };
      const result = await call(name, input, { onprogress: onprogress && told });
      return { text: textOf(result.content), isError: Boolean(result.isError) };
    },
    resources: async () => (await client.listResources()).resources.map((resource) => resource.uri),
    read: async (uri) => textOf((await client.readResource({ uri })).contents),
    prompts: async () => (await client.listPrompts()).prompts.map((prompt) => prompt.name),
    prompt: async (name, input) =>
      textOf((await client.getPrompt({ name, arguments: input })).messages.map((message) => message.content)),
    complete: async (prompt, name, value) =>
      (await client.complete({ ref: { type: "ref/prompt", name: prompt }, argument: { name, value } })).completion.values,
    ping: isAlive,
    level: async (wanted) => {
      level = wanted;
      if (!modern) await client.setLoggingLevel(wanted);
    },
    subscribe: async (uri) => {
      if (!modern) return client.subscribeResource({ uri });
      const subscription = await client.listen({ resourceSubscriptions: [uri] });
      const honored = subscription.honoredFilter.resourceSubscriptions ?? [];
      if (!honored.includes(uri)) throw new Error(`the subscription was not honored: ${JSON.stringify(subscription.honoredFilter)}`);
      subscriptions.push(subscription);
    },
    cancel: async (name, input) => {
      const abort = new AbortController();
      const cancelled = call(name, input, {
        signal: abort.signal,
        onprogress: () => abort.abort("the test cancels"),
      });
      const outcome = await cancelled.then(
        () => "finished",
        (error) => String(error),
      );
      if (!outcome.includes("the test cancels")) throw new Error(`the cancelled call ended as: ${outcome}`);
      await isAlive();
    },
    close: async () => {
      for (const subscription of subscriptions) await subscription.close();
      if (transport.sessionId) await transport.terminateSession();
      await client.close();
      // A last progress notification that came in one chunk with its answer is such an error too.
      const unexpected = failures.filter((error) => !/abort|terminated|unknown token/i.test(String(error)));
      if (unexpected.length) throw new Error(`the transport reported: ${unexpected.join("; ")}`);
    },
  };
}

await runPlan("typescript2", readArguments(), open);
