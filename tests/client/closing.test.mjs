import assert from "node:assert/strict";
import { test } from "node:test";

import { aClient, advance, aLiveClient, aMessage, aPage, MINUTE, SECOND, sleep } from "./world.mjs";

/** Count the timers that are set; call it once the time is faked. */
function timersOf(context) {
  const { setTimeout, clearTimeout } = globalThis;
  const active = new Set();
  globalThis.setTimeout = (run, after) => {
    const timer = setTimeout(() => {
      active.delete(timer);
      run();
    }, after);
    active.add(timer);
    return timer;
  };
  globalThis.clearTimeout = (timer) => {
    active.delete(timer);
    clearTimeout(timer);
  };
  context.after(() => Object.assign(globalThis, { setTimeout, clearTimeout }));
  return active;
}

for (const [when, reach] of [
  ["a token is asked for", () => {}],
  ["a handshake is pending", () => advance(5, 1)],
  [
    "it is catching up, and holds a message",
    async ({ stack }) => {
      await advance(SECOND);
      stack.last.receive(aMessage("1"));
    },
  ],
  ["it is live", () => advance(6 * SECOND)],
  [
    "a connection is being replaced",
    async () => {
      await advance(6 * SECOND);
      await sleep(5 * MINUTE);
      await advance(2 * SECOND);
    },
  ],
  [
    "a connection was replaced",
    async () => {
      await advance(6 * SECOND);
      await sleep(5 * MINUTE);
      await advance(7 * SECOND);
    },
  ],
  [
    "it waits for the next attempt",
    async ({ stack }) => {
      stack.answer = () => "refuse";
      await advance(5 * SECOND);
    },
  ],
  [
    "it is offline",
    async ({ page }) => {
      await advance(6 * SECOND);
      page.fire("offline");
    },
  ],
]) {
  test(`nothing is left if it is closed while ${when}`, async (context) => {
    const page = aPage(context);
    const client = { page, ...aClient(context, { token: async () => "token" }) };
    const timers = timersOf(context);
    client.board.open();
    await reach(client);
    client.board.close();
    const attempts = client.stack.sockets.length;
    await advance(10 * SECOND); // for the timers of the stack
    page.fire("online");
    await advance(10 * SECOND);

    assert.equal(client.board.state, "closed");
    assert.deepEqual([client.stack.open, client.stack.sockets.length], [[], attempts]);
    assert.ok(client.stack.sockets.every(({ isClosedByClient, isOpen }) => isClosedByClient || !isOpen));
    assert.deepEqual([timers.size, page.listeners], [0, 0]);
  });
}

test("a socket that was hung up says nothing more", async (context) => {
  const { board, stack, messages, states } = await aLiveClient(context);
  const socket = stack.last;
  board.close();
  socket.isOpen = true;
  socket.receive(aMessage("1"));
  socket.onerror({}); // npm's ws wants a listener
  socket.drop();

  assert.deepEqual([messages, states.at(-1)], [[], "closed"]);
  assert.deepEqual([socket.onopen, socket.onmessage, socket.onclose], [null, null, null]);
});

test("a listener may close it: what was held comes before, and nothing after", async (context) => {
  const { board, stack } = aClient(context);
  const seen = [];
  board.addEventListener("message", ({ detail }) => {
    seen.push(detail.id);
    board.close();
  });
  board.addEventListener("state", ({ detail }) => seen.push(detail));
  board.open();
  await advance(SECOND);
  seen.length = 0;
  stack.last.receive(aMessage("1", 1));
  stack.last.receive(aMessage("2", 2));
  stack.last.receive({ type: "caught_up", since: "@5" });
  await advance(MINUTE);

  assert.deepEqual(seen, ["1", "2", "closed"]);
  assert.deepEqual([board.state, board.since, stack.open], ["closed", "@5", []]);
});

for (const state of ["connecting", "catching_up", "live"]) {
  test(`a listener may close it as soon as it is ${state}`, async (context) => {
    const { board, stack } = aClient(context);
    const timers = timersOf(context);
    board.addEventListener("state", ({ detail }) => detail === state && board.close());
    board.open();
    await advance(20 * SECOND);

    assert.deepEqual([board.state, stack.open, timers.size], ["closed", [], 0]);
  });
}

test("a listener may close it when a message that was held comes", async (context) => {
  const { board, stack } = aClient(context);
  const timers = timersOf(context);
  board.addEventListener("message", () => board.close());
  board.open();
  await advance(SECOND);
  stack.last.receive(aMessage("1"));
  await advance(10 * SECOND);

  assert.deepEqual([board.state, stack.open, timers.size], ["closed", [], 0]);
});

test("once it is opened again, the pauses are short", async (context) => {
  const { board, stack } = aClient(context);
  stack.answer = () => "refuse";
  board.open();
  await advance(MINUTE);
  board.close();
  board.open();
  await advance(100);
  const attempts = stack.sockets.length;
  await advance(SECOND);

  assert.equal(stack.sockets.length, attempts + 1);
});

test("it may be opened again: it goes on where it was, and knows what it has", async (context) => {
  const { board, stack, messages } = await aLiveClient(context);
  stack.send("1");
  board.close();
  board.close();
  stack.send("2");
  await advance(MINUTE);
  board.open();
  await advance(10 * SECOND);

  assert.equal(stack.last.since, "1");
  assert.deepEqual(messages, ["1", "2"]);
  assert.equal(board.state, "live");
});
