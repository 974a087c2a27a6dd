// Runs a plan (see ../README.md) against one client SDK and prints one JSON line of results.
//
// Knows nothing of any SDK: a driver hands it an `sdk` object with the operations below, and says
// in `sdk.cannot` which of them its client does not have.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

/** The arguments that every driver takes. */
export function readArguments() {
  const { values } = parseArgs({
    options: {
      url: { type: "string" },
      transport: { type: "string" },
      key: { type: "string" },
      ca: { type: "string" },
      plan: { type: "string" },
    },
  });
  for (const name of ["url", "transport", "key", "plan"]) {
    if (!values[name]) throw new Error(`--${name} is missing`);
  }
  const text = values.plan.startsWith("{") ? values.plan : readFileSync(values.plan, "utf8");
  return { ...values, plan: JSON.parse(text) };
}

/** What callbacks and notifications have arrived so far. */
export class Heard {
  counts = { sampling: 0, elicitation: 0, roots: 0, logs: 0, updates: 0 };
  #waiting = new Set();

  note(kind) {
    this.counts[kind] += 1;
    for (const check of this.#waiting) check();
  }

  /** Resolves once `kind` was heard `count` more times than `since`. */
  async reach(kind, since, count, ms = 20000) {
    const reached = () => this.counts[kind] - since >= count;
    if (reached()) return;
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(check);
        reject(new Error(`heard ${this.counts[kind] - since} of ${count} ${kind}`));
      }, ms);
      const check = () => {
        if (!reached()) return;
        clearTimeout(timer);
        this.#waiting.delete(check);
        resolve();
      };
      this.#waiting.add(check);
    });
  }
}

/** Throws unless `text` is what `want` says. */
export function compare(text, want) {
  if (!want) return;
  if (want.equals !== undefined && text !== want.equals) {
    throw new Error(`want exactly ${JSON.stringify(want.equals)}, got ${JSON.stringify(text)}`);
  }
  for (const part of want.contains ?? []) {
    if (!text.includes(part)) {
      throw new Error(`want ${JSON.stringify(part)} in ${JSON.stringify(text.slice(0, 2000))}`);
    }
  }
}

/** The text of a tool result, resource or prompt: its text parts, one a line. */
export function textOf(parts) {
  return parts
    .map((part) => part.text ?? part.resource?.text ?? part.blob ?? "")
    .filter((text) => text !== "")
    .join("\n");
}

function includesAll(have, want, what) {
  const absent = want.filter((name) => !have.includes(name));
  if (absent.length) throw new Error(`${what} not listed: ${absent.join(", ")}; have ${have.join(", ")}`);
}

const steps = {
  async call(sdk, step, heard) {
    const before = { ...heard.counts };
    const progress = [];
    let outcome;
    try {
      outcome = await sdk.call(step.name, step.arguments ?? {}, step.progress ? (p) => progress.push(p) : undefined);
    } catch (error) {
      if (!step.fails) throw error;
      outcome = { text: String(error.message ?? error), isError: true };
    }
    if (outcome.isError !== Boolean(step.fails)) {
      throw new Error(`isError is ${outcome.isError}: ${outcome.text}`);
    }
    compare(outcome.text, step.want);
    if (step.progress) {
      const rising = progress.every((p, i) => i === 0 || p > progress[i - 1]);
      // An SDK that handles notifications in a later turn than answers forgets the token when the
      // last notification and the answer come in one chunk.
      const least = sdk.mayLoseLastProgress ? step.progress - 1 : step.progress;
      if (progress.length < least || progress.length > step.progress || !rising) {
        throw new Error(`want ${step.progress} rising progress notifications, got ${JSON.stringify(progress)}`);
      }
    }
    for (const [kind, count] of Object.entries(step.hears ?? {})) {
      await heard.reach(kind, before[kind], count);
    }
    for (const [kind, count] of Object.entries(step.asks ?? {})) {
      const asked = heard.counts[kind] - before[kind];
      if (asked !== count) throw new Error(`asked for ${kind} ${asked} times, want ${count}`);
    }
  },
  async tools(sdk, step) {
    includesAll(await sdk.tools(), step.want, "tools");
  },
  async resources(sdk, step) {
    includesAll(await sdk.resources(), step.want, "resources");
  },
  async read(sdk, step) {
    compare(await sdk.read(step.uri), step.want);
  },
  async prompts(sdk, step) {
    includesAll(await sdk.prompts(), step.want, "prompts");
  },
  async prompt(sdk, step) {
    compare(await sdk.prompt(step.name, step.arguments ?? {}), step.want);
  },
  async complete(sdk, step) {
    includesAll(await sdk.complete(step.prompt, step.argument, step.value), step.want, "completions");
  },
  async ping(sdk) {
    await sdk.ping();
  },
  async level(sdk, step) {
    await sdk.level(step.level);
  },
  async subscribe(sdk, step) {
    await sdk.subscribe(step.uri);
  },
  async concurrent(sdk, step) {
    const texts = Array.from({ length: step.count }, (_, i) => `${i}-${"x".repeat(i * 37)}-${Math.random()}`);
    const answers = await Promise.all(texts.map((text) => sdk.call(step.name, { [step.argument]: text })));
    answers.forEach((answer, i) => compare(answer.text, { equals: `${step.prefix}${texts[i]}${step.suffix ?? ""}` }));
  },
  async cancel(sdk, step) {
    await sdk.cancel(step.name, step.arguments ?? {});
  },
};

/** Runs one plan; `open` connects and returns the `sdk`. The exit status is 0 when all passed. */
export async function runPlan(driver, args, open) {
  const result = { driver, transport: args.transport, ok: false, steps: [], skipped: [] };
  const heard = new Heard();
  let sdk;
  try {
    sdk = await open(args, heard);
    Object.assign(result, await sdk.about());
    if (!result.server?.includes(args.plan.server)) {
      throw new Error(`the server calls itself ${result.server}, want ${args.plan.server}`);
    }
    for (const step of args.plan.steps) await runStep(sdk, step, heard, result);
    await sdk.close();
    result.ok = true;
  } catch (error) {
    result.error = describe(error);
  }
  result.heard = heard.counts;
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(result.ok ? 0 : 1));
}

async function runStep(sdk, step, heard, result) {
  const label = [step.do, step.name ?? step.uri ?? ""].join(" ").trim();
  const lacks = [step.do, ...(step.needs ?? []), ...(step.progress ? ["progress"] : []), ...Object.keys(step.hears ?? {}), ...Object.keys(step.asks ?? {})]
    .filter((need) => sdk.cannot.includes(need));
  if (lacks.length) {
    result.skipped.push(`${label} (${lacks.join(", ")})`);
    return;
  }
  const started = performance.now();
  try {
    await steps[step.do](sdk, step, heard);
  } catch (error) {
    throw new Error(`${label}: ${describe(error)}`);
  }
  result.steps.push(`${label} ${Math.round(performance.now() - started)}ms`);
}

function describe(error) {
  const causes = [];
  for (let e = error; e; e = e.cause) causes.push(String(e.message ?? e));
  return causes.join(" <- ");
}
