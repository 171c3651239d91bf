// Reads a JSON array of AsyncAPI documents from its standard input; prints what AsyncAPI's own parser finds in each.
import { json } from "node:stream/consumers";
import asyncapi from "@asyncapi/parser";

const results = [];
for (const source of await json(process.stdin)) {
  const { document, diagnostics } = await new asyncapi.Parser().parse(source);
  const found = diagnostics.map(({ severity, code, message }) => ({ severity, code, message }));
  const operations = document?.allOperations().all() ?? [];
  const messages = operations.flatMap((it) => it.messages().all().map((message) => [it.action(), message.id()]));
  results.push({ found, messages });
}
console.log(JSON.stringify(results));
