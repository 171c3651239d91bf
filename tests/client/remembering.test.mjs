import assert from "node:assert/strict";
import { test } from "node:test";

import { Switchboard } from "../../infra/client/switchboard.js";
import {
  aClient,
  advance,
  aLiveClient,
  aMessage,
  FakeStack,
  FakeStorage,
  MINUTE,
  SECOND,
  URL,
} from "./world.mjs";

test("a client that has nothing says @now", async (context) => {
  const { board, stack } = aClient(context);
  assert.equal(board.since, "@now");
  board.open();
  await advance(SECOND);

  assert.equal(stack.last.since, "@now");
});

test("it remembers the position that caught_up gives, then the id of the last message", async (context) => {
  const { board, stack } = await aLiveClient(context);
  assert.match(board.since, /^@\d{13}$/);

  stack.send("1");
  assert.equal(board.since, "1");
  stack.send("2");
  assert.equal(board.since, "2");
});

test("a client that comes back says what it has last, and what it missed is handed on", async (context) => {
  const { stack, messages } = await aLiveClient(context);
  stack.send("1");
  stack.last.drop();
  stack.send("2");
  await advance(10 * SECOND);

  assert.equal(stack.last.since, "1");
  assert.deepEqual(messages, ["1", "2"]);
});

test("a client without messages remembers the position of a keep-alive", async (context) => {
  const { board, stack, gaps } = await aLiveClient(context);
  for (let turn = 0; turn < 12; turn += 1) {
    await advance(5 * MINUTE);
    stack.last.receive({ type: "keepalive", since: `@${Date.now()}` });
  }
  const since = board.since;
  stack.last.drop();
  await advance(10 * SECOND);

  assert.equal(stack.last.since, since);
  assert.deepEqual(gaps, []);
});

test("before caught_up, the position of a keep-alive is not remembered", async (context) => {
  const { board, stack } = aClient(context);
  board.open();
  await advance(SECOND);
  stack.last.receive({ type: "keepalive", since: `@${Date.now()}` });

  assert.equal(board.since, "@now");
});

test("a position that is stored says that the stack keeps a history", async (context) => {
  const storage = new FakeStorage();
  const { board, stack } = await aLiveClient(context, { storage });
  board.close();
  stack.catchesUp = false;
  const again = new Switchboard(URL, { storage, WebSocket: stack.WebSocket });
  again.open();
  await advance(70 * SECOND);

  assert.equal(again.state, "catching_up");
  again.close();
});

test("between the handshake and caught_up, since stays", async (context) => {
  const { board, stack, messages } = await aLiveClient(context);
  stack.send("1");
  stack.last.drop();
  stack.send("2");
  await advance(4 * SECOND);
  stack.send("3");
  await advance(SECOND);
  assert.deepEqual([board.state, board.since, messages], ["catching_up", "1", ["1", "2", "3"]]);
  stack.last.drop();
  await advance(2 * SECOND);

  assert.equal(stack.last.since, "1");
});

test("a duplicate does not set since back", async (context) => {
  const { board, stack } = await aLiveClient(context);
  for (const id of ["1", "2", "1"]) stack.last.receive(aMessage(id));

  assert.equal(board.since, "2");
});

test("after a break before the first caught_up, it goes on from its first message", async (context) => {
  const { board, stack, messages } = aClient(context);
  board.open();
  await advance(SECOND);
  stack.last.receive(aMessage("2", Date.now()));
  stack.last.receive(aMessage("1", Date.now() - 100));
  await advance(400);
  stack.last.drop();
  await advance(2 * SECOND);

  assert.deepEqual(messages, ["1", "2"]);
  assert.equal(stack.last.since, "1");
});

test("if the history does not reach back, the gap is handed on before the messages", async (context) => {
  const client = await aLiveClient(context);
  const { board, stack, gaps, messages } = client;
  stack.send("1");
  stack.answer = () => "refuse";
  stack.last.drop();
  stack.send("2");
  await advance(14 * MINUTE);
  stack.send("3");
  await advance(2 * MINUTE);
  board.addEventListener("gap", () => assert.deepEqual(messages, ["1"]));
  stack.answer = () => "accept";
  await advance(30 * SECOND);

  assert.deepEqual(gaps, [{ since: "1" }]);
  assert.deepEqual(messages, ["1", "3"]);
});

test("another client with the same storage, URL and query goes on", async (context) => {
  const storage = new FakeStorage();
  const first = await aLiveClient(context, { storage, query: { account: "1", region: "2" } });
  first.stack.send("7");
  const stack = new FakeStack();
  for (const [url, query] of [
    [URL, { region: "2", account: "1" }],
    [URL, { region: "3", account: "1" }],
    [`${URL}2`, { region: "2", account: "1" }],
  ]) {
    new Switchboard(url, { WebSocket: stack.WebSocket, storage, query }).open();
  }
  await advance(SECOND);

  assert.deepEqual(
    stack.sockets.map(({ since }) => since),
    ["7", "@now", "@now"],
  );
});

test("what is stored is never ahead of what was handed on", async (context) => {
  const storage = new FakeStorage();
  const { board, stack } = await aLiveClient(context, { storage });
  const stored = [];
  board.addEventListener("message", () => stored.push(...storage.items.values()));
  stack.send("1");
  stack.send("2");

  assert.match(stored[0], /^@/);
  assert.deepEqual(stored.slice(1), ["1"]);
  assert.deepEqual([...storage.items.values()], ["2"]);
});

for (const storage of [false, null, undefined]) {
  test(`without a storage the memory is enough: ${storage}`, async (context) => {
    const { board, stack } = await aLiveClient(context, { storage });
    stack.send("1");

    assert.equal(board.since, "1");
  });
}

test("a storage that throws harms nothing", async (context) => {
  const fail = () => {
    throw new Error("SecurityError");
  };
  const { board, stack, messages } = await aLiveClient(context, {
    storage: { getItem: fail, setItem: fail },
  });
  stack.send("1");

  assert.deepEqual([board.state, board.since, messages], ["live", "1", ["1"]]);
});

for (const stored of ["", "a\nb", "x".repeat(129), "@yesterday", "@", Promise.resolve("1"), 7]) {
  test(`what is stored is not taken if it is no since: ${String(stored).slice(0, 9)}`, async (context) => {
    const { board } = aClient(context, { storage: { getItem: () => stored, setItem: () => {} } });

    assert.equal(board.since, "@now");
  });
}

test("what the stack would refuse is not remembered", async (context) => {
  const { board, stack } = await aLiveClient(context);
  stack.send("1");
  for (const id of ["", "a\u0007", "x".repeat(129), "@now"]) stack.send(id);
  stack.last.receive({ type: "caught_up" });
  assert.equal(board.since, "1");

  stack.send("é".repeat(128));
  assert.equal(board.since, "é".repeat(128));
});
