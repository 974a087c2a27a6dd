// Drives the Inspector's command line as a person would: one process, one session, one method.
//
// Run it with NODE_EXTRA_CA_CERTS naming the certificate to trust; `../drive` does.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { readArguments, runPlan, textOf } from "./plan.mjs";

const here = dirname(fileURLToPath(import.meta.url));

/** Everything that needs a session of more than one request, or a person to answer. */
const CANNOT = ["ping", "complete", "concurrent", "cancel", "progress", "sampling", "elicitation", "roots", "logs", "updates", "subscribe", "level"];

function inspect({ url, transport, key }, home, more) {
  const argv = ["--cli", url, "--transport", transport, "--header", `Authorization: Bearer ${key}`, "--format", "json", ...more];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(here, "node_modules/.bin/inspector"), ...argv], {
      env: { ...process.env, HOME: home },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const out = [];
    const err = [];
    child.stdout.on("data", (chunk) => out.push(chunk));
    child.stderr.on("data", (chunk) => err.push(chunk));
    child.on("error", reject);
    child.on("close", (code) => {
      const said = Buffer.concat(out).toString();
      if (said.trim() === "") {
        reject(new Error(`inspector ${more.join(" ")} exited ${code}: ${Buffer.concat(err)}`));
        return;
      }
      resolve({ code, answer: JSON.parse(said) });
    });
  });
}

async function open(args) {
  // Its catalogue and its stored log-ins live under HOME: the test must not touch the person's own.
  const home = mkdtempSync(join(tmpdir(), "inspector-"));
  const ask = async (...more) => {
    const { code, answer } = await inspect(args, home, more);
    if (answer.result === undefined) throw new Error(`exit ${code}: ${JSON.stringify(answer)}`);
    return answer.result;
  };
  return {
    cannot: CANNOT,
    about: async () => ({ server: args.plan.server, session: "one per method" }),
    tools: async () => (await ask("--method", "tools/list")).tools.map((tool) => tool.name),
    call: async (name, input) => {
      const result = await ask("--method", "tools/call", "--tool-name", name, "--tool-args-json", JSON.stringify(input));
      return { text: textOf(result.content), isError: Boolean(result.isError) };
    },
    resources: async () => (await ask("--method", "resources/list")).resources.map((resource) => resource.uri),
    read: async (uri) => textOf((await ask("--method", "resources/read", "--uri", uri)).contents),
    prompts: async () => (await ask("--method", "prompts/list")).prompts.map((prompt) => prompt.name),
    prompt: async (name, input) => {
      const pairs = Object.entries(input).flatMap(([k, v]) => ["--prompt-args", `${k}=${v}`]);
      const result = await ask("--method", "prompts/get", "--prompt-name", name, ...pairs);
      return textOf(result.messages.map((message) => message.content));
    },
    close: async () => rmSync(home, { recursive: true, force: true }),
  };
}

await runPlan("inspector", readArguments(), open);
