// An OpenID provider for tests: `oidc-provider`, which signs everybody in as the person that the
// request names in `login_hint`, or as `ann`.
//
//   node provider.mjs     prints {"issuer": URL} and serves until stdin ends
//
// What it issues for a resource (RFC 8707) is a signed JWT, or opaque for resources whose URL ends
// in /opaque/mcp. Clients may register themselves; `gateway` may ask about tokens.

import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";

import Provider from "oidc-provider";

const server = createServer();
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const jwk = (type, options, alg) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }),
  alg,
  use: "sig",
  kid: `key-${alg}`,
});

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "gateway",
      client_secret: "the-gateways-own-secret",
      redirect_uris: [],
      response_types: [],
      grant_types: [],
    },
  ],
  jwks: {
    keys: [jwk("ec", { namedCurve: "P-256" }, "ES256"), jwk("rsa", { modulusLength: 2048 }, "RS256")],
  },
  scopes: ["openid", "offline_access", "reader", "writer"],
  pkce: { required: () => true },
  ttl: { AccessToken: 600, Grant: 600, Interaction: 600, Session: 600, RefreshToken: 600 },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({
        scope: "reader writer",
        audience: resource,
        accessTokenFormat: resource.endsWith("/opaque/mcp") ? "opaque" : "jwt",
        jwt: { sign: { alg: "ES256" } },
      }),
    },
  },
});

/** Answers what a person would be asked. */
async function interact(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (prompt.name === "login") {
    const login = { accountId: params.login_hint ?? "ann" };
    return provider.interactionFinished(request, response, { login });
  }
  const grant = grantId
    ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  const { missingOIDCScope, missingResourceScopes } = prompt.details;
  if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(" "));
  for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(" "));
  }
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
}

/** Clients register the scope that they need first; who steps up needs more. */
async function register(request, response) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const { scope, ...metadata } = JSON.parse(Buffer.concat(pieces));
  request.body = metadata;
  return callback(request, response);
}

const callback = provider.callback();
server.on("request", (request, response) => {
  const { url, method } = request;
  const answer =
    method === "POST" && url === "/reg" ? register : url.startsWith("/interaction/") ? interact : callback;
  Promise.resolve(answer(request, response)).catch((error) => {
    console.error(error);
    response.writeHead(500).end();
  });
});

console.log(JSON.stringify({ issuer }));
process.stdin.resume().on("end", () => process.exit(0));
