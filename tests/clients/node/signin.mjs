// Walks from a bare 401 to a session with the TypeScript SDK's own OAuth client: discovery,
// registration, PKCE, the sign-in that a browser would do, the token, the call.
//
//   node signin.mjs URL sse|http TOOL…      prints one JSON line: what happened

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, kind, ...tools] = process.argv.slice(2);
const redirect = "http://127.0.0.1:1/callback";
const seen = { scopes: [], resources: [], answers: [] };

/** What a browser does: follows redirects with cookies until they lead back to the client. */
async function browse(start) {
  const cookies = new Map();
  let next = start;
  for (let hops = 0; hops < 20; hops += 1) {
    if (next.href.startsWith(redirect)) {
      const given = next.searchParams.get("code");
      if (!given) throw new Error(`the provider refuses: ${next.search}`);
      return given;
    }
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(next, { redirect: "manual", headers: { cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [pair] = line.split(";");
      const at = pair.indexOf("=");
      cookies.set(pair.slice(0, at), pair.slice(at + 1));
    }
    const location = response.headers.get("location");
    if (!location) throw new Error(`${response.status} at ${next}: ${await response.text()}`);
    next = new URL(location, next);
  }
  throw new Error("too many redirects");
}

let code;
const store = {};
const provider = {
  redirectUrl: redirect,
  clientMetadata: {
    client_name: "gatehouse-test",
    redirect_uris: [redirect],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
    application_type: "native",
  },
  clientInformation: () => store.client,
  saveClientInformation: (client) => void (store.client = client),
  tokens: () => store.tokens,
  saveTokens: (tokens) => void (store.tokens = tokens),
  saveCodeVerifier: (verifier) => void (store.verifier = verifier),
  codeVerifier: () => store.verifier,
  redirectToAuthorization: async (where) => {
    seen.scopes.push(where.searchParams.get("scope"));
    seen.resources.push(where.searchParams.get("resource"));
    code = await browse(where);
  },
};

const transport = () =>
  kind === "sse"
    ? new SSEClientTransport(new URL(url), { authProvider: provider })
    : new StreamableHTTPClientTransport(new URL(url), { authProvider: provider });

async function connect() {
  const client = new Client({ name: "gatehouse-test-signin", version: "1.0.0" });
  const first = transport();
  try {
    await client.connect(first);
    return [client, first];
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
  }
  await first.finishAuth(code);
  const again = new Client({ name: "gatehouse-test-signin", version: "1.0.0" });
  const second = transport();
  await again.connect(second);
  return [again, second];
}

const [client, connected] = await connect();
for (const tool of tools) {
  let result;
  try {
    result = await client.callTool({ name: tool, arguments: { text: "hello" } });
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    // Another scope was asked for: sign in with it, and call again in the same session.
    await connected.finishAuth(code);
    result = await client.callTool({ name: tool, arguments: { text: "hello" } });
  }
  seen.answers.push(result.content[0]?.text ?? "");
}
await client.close();
console.log(JSON.stringify(seen));
process.exit(0);
