import assert from "node:assert/strict";
import { test } from "node:test";

import { aClient, advance, aLiveClient, FakeStack, MINUTE, SECOND, URL } from "./world.mjs";

test("nothing is connected before it is opened, and nothing twice", async (context) => {
  const { board, stack } = aClient(context);
  await advance(SECOND);
  assert.equal(stack.sockets.length, 0);
  assert.equal(board.state, "closed");

  board.open();
  board.open();
  await advance(MINUTE);

  assert.equal(stack.sockets.length, 1);
});

test("the query has what was given and since, percent-encoded", async (context) => {
  const query = { region: "eu-central-1", clientId: "wall 3+1/ü", account: undefined, note: null, floor: 4 };
  const { stack } = await aLiveClient(context, { query });

  assert.equal(
    stack.last.url,
    `${URL}?clientId=wall%203%2B1%2F%C3%BC&floor=4&region=eu-central-1&since=%40now`,
  );
});

test("a query that the URL has stays", async (context) => {
  const { stack } = await aLiveClient(context, { url: `${URL}?clientId=wall-3`, query: { floor: 4 } });

  assert.equal(stack.last.url, `${URL}?clientId=wall-3&floor=4&since=%40now`);
});

test("it is connecting, then catching up, then live", async (context) => {
  const { states } = await aLiveClient(context);

  assert.deepEqual(states, ["connecting", "catching_up", "live"]);
});

test("without a token no subprotocol is offered", async (context) => {
  const { stack } = await aLiveClient(context);

  assert.deepEqual(stack.last.protocols, []);
});

test("a token is the second subprotocol, and asked for before each handshake", async (context) => {
  let asked = 0;
  const { stack } = await aLiveClient(context, { token: async () => `token-${++asked}` });
  stack.last.drop();
  await advance(10 * SECOND);

  assert.deepEqual(
    stack.sockets.map(({ protocols }) => protocols),
    [
      ["switchboard", "token-1"],
      ["switchboard", "token-2"],
    ],
  );
});

for (const [how, token] of [
  ["rejects", async () => Promise.reject(new Error("no session"))],
  [
    "throws",
    () => {
      throw new Error("no session");
    },
  ],
]) {
  test(`a token's callback that ${how} is a failed attempt, and the error is handed on`, async (context) => {
    let works = false;
    const { board, stack, states, errors } = aClient(context, { token: () => (works ? "token" : token()) });
    board.open();
    await advance(100);
    assert.deepEqual([states, stack.sockets.length], [["connecting", "waiting"], 0]);
    assert.deepEqual(errors.map(String), ["Error: no session"]);

    works = true;
    await advance(10 * SECOND);

    assert.equal(board.state, "live");
  });
}

test("a handshake that nobody answers is given up after 35 s", async (context) => {
  const { board, stack } = aClient(context);
  stack.answer = () => "hang";
  board.open();
  await advance(34 * SECOND);
  assert.equal(stack.sockets.length, 1);

  stack.answer = () => "accept";
  await advance(10 * SECOND);

  assert.ok(stack.sockets[0].isClosedByClient);
  assert.equal(board.state, "live");
});

test("a token that takes longer than 35 s to come is not used", async (context) => {
  const later = Promise.withResolvers?.() ?? resolvers();
  let asked = 0;
  const { board, stack } = aClient(context, { token: () => (++asked === 1 ? later.promise : "second") });
  board.open();
  await advance(36 * SECOND);
  later.resolve("first");
  await advance(10 * SECOND);

  assert.deepEqual(
    stack.sockets.map(({ protocols }) => protocols[1]),
    ["second"],
  );
});

test("a ticket is in the query, and asked for before each handshake", async (context) => {
  let asked = 0;
  const keys = new Set();
  const storage = { getItem: () => null, setItem: (key) => keys.add(key) };
  const { stack } = await aLiveClient(context, { ticket: async () => `t/${++asked}`, storage });
  stack.last.drop();
  await advance(10 * SECOND);

  assert.deepEqual(
    stack.sockets.map(({ url }) => new globalThis.URL(url).searchParams.get("ticket")),
    ["t/1", "t/2"],
  );
  assert.deepEqual([...keys], [`switchboard ${URL}?`]);
});

test("a URL that is none is a failed attempt", async (context) => {
  const stack = new FakeStack();
  const Strict = class {
    constructor() {
      throw new SyntaxError("Invalid URL");
    }
  };
  const { board, states, errors } = aClient(context, { stack, url: "nonsense", WebSocket: Strict });
  board.open();
  await advance(100);

  assert.deepEqual(states, ["connecting", "waiting"]);
  assert.equal(errors[0].name, "SyntaxError");
  board.close();
});

function resolvers() {
  const made = {};
  made.promise = new Promise((resolve) => Object.assign(made, { resolve }));
  return made;
}
