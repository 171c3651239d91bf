import assert from "node:assert/strict";
import { test } from "node:test";

import { aClient, advance, aLiveClient, aMessage, FakeStack, MINUTE, SECOND, until } from "./world.mjs";

/** A live client that comes back to a stack that does not send caught_up any more. */
async function aWaitingClient(context) {
  const client = await aLiveClient(context);
  client.stack.catchesUp = false;
  client.stack.send("1");
  client.stack.last.drop();
  await advance(SECOND);
  return client;
}

test("without caught_up within 60 s it connects again, the new connection first", async (context) => {
  const { board, stack } = await aWaitingClient(context);
  await advance(58 * SECOND);
  assert.equal(stack.sockets.length, 2);
  stack.catchesUp = true;
  await advance(4 * SECOND);
  const [, second, third] = stack.sockets;
  assert.deepEqual([second.isOpen, third.isOpen, third.since, board.state], [true, true, "1", "catching_up"]);
  await advance(20 * SECOND);

  assert.deepEqual([second.isOpen, third.isOpen, board.state], [false, true, "live"]);
});

test("messages are handed on meanwhile, and since stays", async (context) => {
  const { board, stack, messages } = await aWaitingClient(context);
  await advance(40 * SECOND);
  stack.send("2");
  await advance(SECOND);

  assert.deepEqual([messages, board.since], [["1", "2"], "1"]);
});

test("a caught_up that comes late is taken, and no further connection is opened", async (context) => {
  const { board, stack } = await aWaitingClient(context);
  stack.answer = () => "refuse";
  await advance(80 * SECOND);
  stack.sockets[1].receive({ type: "caught_up", since: "@5" });
  assert.deepEqual([board.state, board.since], ["live", "@5"]);
  await advance(100);
  const attempts = stack.sockets.length;
  await advance(5 * MINUTE);

  assert.equal(stack.sockets.length, attempts);
});

test("each time in a row it waits twice as long, and after the fourth no longer", async (context) => {
  const { board, stack } = await aWaitingClient(context);
  const began = Date.now();
  for (let halves = 0; board.state !== "live" && halves < 60; halves += 1) {
    await advance(30 * SECOND);
    for (const socket of stack.open) socket.receive({ type: "keepalive" });
  }

  const ages = stack.sockets
    .slice(1)
    .map(({ createdAt }) => Math.abs(Math.round((createdAt - began) / MINUTE)));
  assert.deepEqual(ages, [0, 1, 3, 7]);
  assert.equal(Math.floor((Date.now() - began) / MINUTE), 15);
  assert.equal(board.since, "1"); // so that nothing is skipped, once it comes again
});

test("once it has come, it is waited for 60 s again", async (context) => {
  const { board, stack } = await aWaitingClient(context);
  await advance(59 * SECOND);
  stack.catchesUp = true;
  await advance(10 * SECOND);
  assert.equal(board.state, "live");
  stack.catchesUp = false;
  stack.last.drop();
  await until(() => board.state === "catching_up");
  const attempts = stack.sockets.length;
  await advance(75 * SECOND);

  assert.equal(stack.sockets.length, attempts + 1);
});

test("with the history switched off, the client is live after 60 s, and stays connected", async (context) => {
  const { board, stack } = aClient(context);
  stack.keepsHistory = false;
  board.open();
  await advance(59 * SECOND);
  assert.equal(board.state, "catching_up");
  await advance(2 * SECOND);
  assert.equal(board.state, "live");
  await advance(5 * MINUTE);

  assert.equal(stack.sockets.length, 1);
});

test("with the history switched off, later connections are live at once", async (context) => {
  const stack = Object.assign(new FakeStack(), { keepsHistory: false });
  const { board, states } = aClient(context, { stack });
  board.open();
  await advance(65 * SECOND);
  stack.last.drop();
  await advance(2 * SECOND);

  assert.deepEqual(states.slice(3), ["waiting", "connecting", "live"]);
});

test("on a connection without caught_up since stays, so that nothing is skipped later", async (context) => {
  const { board, stack, messages } = await aWaitingClient(context);
  stack.send("missed", { to: [] });
  board.close();
  const again = aClient(null, { stack, storage: { getItem: () => "1", setItem: () => {} } });
  again.board.open();
  await advance(65 * SECOND);
  assert.equal(again.board.state, "live");
  stack.send("2");
  assert.equal(again.board.since, "1");
  stack.catchesUp = true;
  stack.last.drop();
  await advance(10 * SECOND);

  assert.deepEqual(messages, ["1"]);
  assert.deepEqual(again.messages.sort(), ["1", "2", "missed"]);
  assert.match(again.board.since, /^@/);
});

test("once the history is switched on, caught_up is waited for", async (context) => {
  const stack = Object.assign(new FakeStack(), { keepsHistory: false });
  const { board, states } = aClient(context, { stack });
  board.open();
  await advance(65 * SECOND);
  stack.keepsHistory = true;
  stack.last.drop();
  await advance(10 * SECOND);
  stack.last.drop();
  await advance(10 * SECOND);

  assert.deepEqual(states.slice(-3), ["connecting", "catching_up", "live"]);
  assert.equal(board.state, "live");
});

test("messages on a connection that is live without caught_up are handed on at once", async (context) => {
  const stack = Object.assign(new FakeStack(), { keepsHistory: false });
  const { board, messages } = aClient(context, { stack });
  board.open();
  await advance(65 * SECOND);
  stack.last.receive(aMessage("1"));

  assert.deepEqual(messages, ["1"]);
});
