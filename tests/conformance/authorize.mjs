// Makes every request of the official suite, which knows of no keys and no TLS, one that the
// gateway lets in. Loaded before it with `node --import`; GATEHOUSE_KEY is the key, and
// NODE_EXTRA_CA_CERTS names the certificate to trust.

import http from "node:http";
import https from "node:https";
import { createRequire, syncBuiltinESMExports } from "node:module";

const authorization = `Bearer ${process.env.GATEHOUSE_KEY}`;

const plainFetch = globalThis.fetch;
globalThis.fetch = (input, init = {}) => {
  const headers = new Headers(init.headers ?? (input instanceof Request ? input.headers : undefined));
  headers.set("authorization", authorization);
  return plainFetch(input, { ...init, headers });
};

// The suite's own copy: a change made before its first import is what every import sees.
const suite = new URL("node_modules/@modelcontextprotocol/conformance/dist/index.js", import.meta.url);
const require = createRequire(suite);
const undici = require("undici");
const plainRequest = undici.request;
const connect = undici.buildConnector({});
// It takes the name that the certificate must have from the `Host` that it sends, which the suite
// forges.
const dispatcher = new undici.Agent({
  connect: (options, done) => connect({ ...options, servername: "localhost" }, done),
});
undici.request = (url, options = {}) =>
  plainRequest(url, { dispatcher, ...options, headers: { ...options.headers, authorization } });

http.request = (options, answered) =>
  https.request({ ...options, headers: { ...options.headers, authorization } }, answered);
syncBuiltinESMExports();
