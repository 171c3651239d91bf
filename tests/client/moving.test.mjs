import assert from "node:assert/strict";
import { test } from "node:test";

import { advance, aLiveClient, aMessage, FakeStack, MINUTE, SECOND, until } from "./world.mjs";

/** A client whose connection is about to be replaced: the new one is catching up. */
async function aMovingClient(context, options) {
  const client = await aLiveClient(context, options);
  await keepAlive(client.stack)(107 * MINUTE);
  await until(() => client.stack.sockets.length > 1);
  await advance(SECOND);
  return client;
}

/** Advance the time, and have the stack send keep-alives. */
function keepAlive(stack) {
  return async (milliseconds) => {
    for (let left = milliseconds; left > 0; left -= 9 * MINUTE) {
      await advance(Math.min(left, 9 * MINUTE));
      for (const socket of stack.open) socket.receive({ type: "keepalive" });
    }
  };
}

/** A token that is good for *lifetime*, by a clock that is *ahead* of the client's. */
function aToken(lifetime, ahead = 0) {
  const now = Math.floor((Date.now() + ahead) / SECOND);
  const claims = { sub: "wall-3?>~ü", iat: now, exp: now + lifetime / SECOND };
  const parts = [{ alg: "ES256" }, claims].map((part) =>
    Buffer.from(JSON.stringify(part)).toString("base64url"),
  );
  return [...parts, "signature"].join(".");
}

for (const [random, minutes] of [
  [0, 100],
  [0.5, 107.5],
  [0.999, 114.985],
]) {
  test(`a connection is replaced at an age of 100 to 115 minutes: ${minutes}`, async (context) => {
    const { stack } = await aLiveClient(context, { random });
    await keepAlive(stack)(120 * MINUTE);

    const age = (stack.sockets[1].createdAt - stack.sockets[0].openedAt) / MINUTE;
    assert.ok(Math.abs(age - minutes) < 0.05, `${age} minutes`);
  });
}

test("the new connection is caught up before the old one is closed", async (context) => {
  const { board, stack } = await aLiveClient(context);
  stack.send("1");
  await keepAlive(stack)(107 * MINUTE);
  await until(() => stack.sockets.length > 1);
  const [old, young] = stack.sockets;

  await advance(4 * SECOND);
  assert.deepEqual([young.isOpen, old.isOpen, young.since], [true, true, "1"]);
  await advance(3 * SECOND);
  assert.deepEqual([young.isOpen, old.isOpen, board.state], [true, true, "live"]); // for what is on its way
  await advance(10 * SECOND);

  assert.deepEqual([young.isOpen, old.isOpen, old.isClosedByClient], [true, false, true]);
});

test("it stays live, and no message is lost or handed on twice", async (context) => {
  const { stack, states, messages } = await aLiveClient(context);
  await keepAlive(stack)(107 * MINUTE);
  const sent = [];
  for (let number = 0; number < 120; number += 1) {
    sent.push(`${number}`);
    stack.send(`${number}`);
    await advance(SECOND);
  }

  assert.equal(stack.sockets.length, 2);
  assert.deepEqual(messages, sent);
  assert.deepEqual(states, ["connecting", "catching_up", "live"]);
});

test("a message that only one of the two gets is handed on at once", async (context) => {
  const { stack, messages } = await aMovingClient(context);
  const [old, young] = stack.sockets;

  young.receive(aMessage("by the new one"));
  old.receive(aMessage("by the old one"));
  assert.deepEqual(messages, ["by the new one", "by the old one"]);
});

test("without a history, messages of both are taken for 10 s", async (context) => {
  const { stack, messages } = await aLiveClient(context, {
    stack: Object.assign(new FakeStack(), { keepsHistory: false }),
  });
  await keepAlive(stack)(107 * MINUTE);
  await until(() => stack.sockets.length > 1);
  const [old, young] = stack.sockets;
  await advance(8 * SECOND);
  old.receive(aMessage("1"));
  young.receive(aMessage("1"));
  young.receive(aMessage("2"));
  assert.deepEqual(messages, ["1", "2"]);
  await advance(3 * SECOND);

  assert.deepEqual([old.isOpen, young.isOpen], [false, true]);
});

test("if the new connection fails, the old one stays, and it tries again", async (context) => {
  const { board, stack, messages } = await aLiveClient(context);
  stack.answer = () => "refuse";
  await keepAlive(stack)(108 * MINUTE);
  assert.ok(stack.sockets.length > 3, `${stack.sockets.length} attempts`);
  stack.send("1");
  assert.deepEqual([board.state, stack.open.length, messages], ["live", 1, ["1"]]);

  stack.answer = () => "accept";
  await advance(MINUTE);

  assert.deepEqual([board.state, stack.open], ["live", [stack.last]]);
});

test("if the new connection ends before it has caught up, the old one stays", async (context) => {
  const { board, stack } = await aMovingClient(context);
  stack.last.drop();
  assert.deepEqual([board.state, stack.open], ["live", [stack.sockets[0]]]);
  await advance(30 * SECOND);

  assert.equal(stack.sockets.length, 3);
  assert.deepEqual(stack.open, [stack.last]);
});

test("if the new connection does not catch up, the old one stays, and it tries again", async (context) => {
  const { board, stack } = await aLiveClient(context);
  stack.catchesUp = false;
  await keepAlive(stack)(107 * MINUTE);
  await until(() => stack.sockets.length > 1);
  await advance(59 * SECOND);
  assert.equal(stack.sockets.length, 2);
  await advance(5 * SECOND);

  assert.ok(stack.sockets[1].isClosedByClient);
  assert.deepEqual([board.state, stack.open], ["live", [stack.sockets[0], stack.sockets[2]]]);
});

test("if the old connection ends meanwhile, the new one takes over", async (context) => {
  const { board, stack } = await aMovingClient(context);
  stack.sockets[0].drop();
  assert.equal(board.state, "catching_up");
  await advance(30 * SECOND);

  assert.equal(board.state, "live");
  assert.equal(stack.sockets.length, 2);
});

test("a connection is replaced before its token expires, with a new token", async (context) => {
  const { board, stack } = await aLiveClient(context, { token: () => aToken(60 * MINUTE) });
  await keepAlive(stack)(47 * MINUTE);
  assert.equal(stack.sockets.length, 1);
  await keepAlive(stack)(11 * MINUTE);

  assert.equal(stack.sockets.length, 2);
  assert.notEqual(stack.sockets[0].protocols[1], stack.sockets[1].protocols[1]);
  assert.equal(board.state, "live");
});

test("a token that does not say when it was issued ends when it says", async (context) => {
  const issued = () => {
    const [header, , signature] = aToken(MINUTE).split(".");
    const claims = { sub: "wall-3", exp: Math.floor(Date.now() / SECOND) + 3600 };
    return [header, Buffer.from(JSON.stringify(claims)).toString("base64url"), signature].join(".");
  };
  const { stack } = await aLiveClient(context, { token: issued });
  await keepAlive(stack)(47 * MINUTE);
  assert.equal(stack.sockets.length, 1);
  await keepAlive(stack)(11 * MINUTE);

  assert.equal(stack.sockets.length, 2);
});

for (const [which, ahead] of [
  ["ahead", -90 * MINUTE],
  ["behind", 90 * MINUTE],
]) {
  test(`a client whose clock is ${which} replaces its connection as often`, async (context) => {
    const { stack } = await aLiveClient(context, { token: () => aToken(60 * MINUTE, ahead) });
    await keepAlive(stack)(47 * MINUTE);
    assert.equal(stack.sockets.length, 1);
    await keepAlive(stack)(11 * MINUTE);

    assert.equal(stack.sockets.length, 2);
  });
}

test("a token that is about to expire does not make it connect again and again", async (context) => {
  const { stack } = await aLiveClient(context, { token: () => aToken(5 * SECOND) });
  await advance(50 * SECOND);

  assert.equal(stack.sockets.length, 2);
});

test("a connection that catches up after it should have been replaced is replaced then", async (context) => {
  const { stack } = await aLiveClient(context, { token: () => aToken(5 * SECOND) });
  stack.catchesUp = false;
  await advance(70 * SECOND);
  assert.equal(stack.sockets.length, 2);
  stack.last.receive({ type: "caught_up", since: "@5" });
  await advance(SECOND);

  assert.equal(stack.sockets.length, 3);
});

test("a token that is no JWT says nothing", async (context) => {
  const { stack } = await aLiveClient(context, { token: () => "a.b.c" });
  await keepAlive(stack)(99 * MINUTE);

  assert.equal(stack.sockets.length, 1);
});
