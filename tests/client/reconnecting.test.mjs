import assert from "node:assert/strict";
import { test } from "node:test";

import { aClient, advance, aLiveClient, MINUTE, SECOND, until } from "./world.mjs";

/** The seconds between the failures and the attempts that follow them. */
async function pauses(context, random, answer = "refuse") {
  const { board, stack } = aClient(context, { random });
  stack.answer = () => answer;
  board.open();
  await advance(random ? 2 * MINUTE : SECOND, 10);
  board.close();
  const createdAt = stack.sockets.map((socket) => socket.createdAt);
  return createdAt.slice(1).map((at, index) => Math.round((at - createdAt[index] - 10) / 100) / 10);
}

for (const [random, expected] of [
  [0, Array(5).fill(0)],
  [0.5, [0.5, 1, 2, 4, 8, 15, 15]],
  [0.999, [1, 2, 4, 8, 16, 30, 30]],
]) {
  test(`pauses double up to 30 s, with full jitter: ${random} of them`, async (context) => {
    const measured = await pauses(context, random);

    assert.deepEqual(measured.slice(0, expected.length), expected);
  });
}

test("a refused handshake may be an error alone, without a close event", async (context) => {
  assert.deepEqual((await pauses(context, 0.5, "refuse by an error alone")).slice(0, 3), [0.5, 1, 2]);
});

test("it waits for the next attempt, and says so", async (context) => {
  const { board, stack, states } = await aLiveClient(context);
  stack.last.drop();
  assert.equal(board.state, "waiting");
  await advance(7 * SECOND);

  assert.deepEqual(states.slice(3), ["waiting", "connecting", "catching_up", "live"]);
});

test("a stack that accepts connections and drops them is not hammered", async (context) => {
  const { board, stack } = aClient(context);
  stack.keepsHistory = false;
  board.open();
  await advance(70 * SECOND);
  assert.equal(board.state, "live"); // without a history, from now on at once
  for (let time = 0; time < MINUTE; time += SECOND) {
    if (board.state === "live") stack.last.drop();
    await advance(SECOND);
  }

  const attempts = stack.sockets.length - 1;
  assert.ok(attempts <= 7, `${attempts} attempts in a minute`);
});

test("once a connection was live for 30 s, the pauses are short again", async (context) => {
  const { board, stack } = aClient(context);
  let refused = 6;
  stack.answer = () => (refused-- > 0 ? "refuse" : "accept");
  board.open();
  await advance(50 * SECOND);
  assert.equal(board.state, "live");
  await advance(31 * SECOND);
  stack.last.drop();
  await advance(SECOND);

  assert.notEqual(board.state, "waiting");
});

test("a connection that was live for less than 30 s leaves the pauses long", async (context) => {
  const { board, stack } = aClient(context);
  let refused = 6;
  stack.answer = () => (refused-- > 0 ? "refuse" : "accept");
  board.open();
  await advance(32 * SECOND);
  await until(() => board.state === "live");
  await advance(28 * SECOND);
  stack.last.drop();
  await advance(14 * SECOND);

  assert.equal(board.state, "waiting");
});
