// The issuer of infra/issuer.py: npm's oauth2-mock-server. It takes requests as lines of JSON on its standard
// input, answers each with one line, and ends when that input closes.

import { createInterface } from "node:readline";
import { OAuth2Server } from "oauth2-mock-server";

const [, port, key, certificate] = process.argv;
let server;

async function start() {
  const next = new OAuth2Server(key, certificate);
  await next.issuer.keys.generate("RS256");
  await server?.stop(); // a key can't be taken away from a server
  await next.start(Number(port), "127.0.0.1");
  server = next;
  return { url: server.issuer.url };
}

async function token(claims) {
  return { token: await server.issuer.buildToken({ scopesOrTransform: (_, all) => Object.assign(all, claims) }) };
}

console.log(JSON.stringify(await start()));
for await (const line of createInterface({ input: process.stdin })) {
  const { claims } = JSON.parse(line);
  console.log(JSON.stringify(claims ? await token(claims) : await start()));
}
process.exit();
