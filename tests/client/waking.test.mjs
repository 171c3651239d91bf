import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { aClient, advance, aLiveClient, aMessage, aPage, MINUTE, SECOND, sleep } from "./world.mjs";

test("after a sleep the connection is replaced, the new one first", async (context) => {
  const { board, stack, states } = await aLiveClient(context);
  stack.send("1");
  await sleep(5 * MINUTE);
  await advance(SECOND);
  const [old, young] = stack.sockets;
  assert.deepEqual([old.isOpen, young.isOpen, young.since, board.state], [true, true, "1", "live"]);
  await advance(20 * SECOND);

  assert.deepEqual(stack.open, [young]);
  assert.deepEqual(states, ["connecting", "catching_up", "live"]);
});

test("after a sleep what was missed on a connection that is lost is handed on", async (context) => {
  const { stack, messages } = await aLiveClient(context);
  stack.last.lose();
  stack.send("1");
  await sleep(5 * MINUTE);
  await advance(MINUTE);

  assert.deepEqual(messages, ["1"]);
});

test("after a sleep longer than a connection can last, it is ended, and another opened", async (context) => {
  const { board, stack, states } = await aLiveClient(context);
  stack.last.lose();
  await sleep(3 * 60 * MINUTE);
  assert.ok(stack.sockets[0].isClosedByClient);
  assert.equal(board.state, "waiting");
  await advance(10 * SECOND);

  assert.deepEqual(states.slice(3), ["waiting", "connecting", "catching_up", "live"]);
  assert.equal(stack.sockets.length, 2);
});

test("an attempt that was due during a sleep is made on waking", async (context) => {
  const { board, stack } = aClient(context);
  stack.answer = () => "refuse";
  board.open();
  await advance(20 * SECOND);
  const before = stack.sockets.length;
  stack.answer = () => "accept";
  await sleep(60 * MINUTE);
  await advance(SECOND);

  assert.equal(stack.sockets.length, before + 1);
  assert.equal(board.state, "catching_up");
});

test("the timers of a hidden page, once a minute, are no sleep", async (context) => {
  const { stack } = await aLiveClient(context);
  await advance(9 * MINUTE, MINUTE);

  assert.equal(stack.sockets.length, 1);
});

test("a connection that is silent for 10.5 minutes is lost, and replaced", async (context) => {
  const { board, stack } = await aLiveClient(context);
  stack.last.receive({ type: "keepalive" });
  await advance(10.4 * MINUTE);
  assert.equal(stack.sockets.length, 1);
  await advance(20 * SECOND);

  assert.ok(stack.sockets[0].isClosedByClient);
  assert.equal(stack.sockets.length, 2);
  assert.equal(board.state, "live");
});

test("keep-alives show that a connection is not lost", async (context) => {
  const { stack } = await aLiveClient(context);
  for (let count = 0; count < 10; count += 1) {
    await advance(9 * MINUTE);
    stack.last.receive({ type: "keepalive" });
  }

  assert.equal(stack.sockets.length, 1);
});

test("a clock that is set back delays nothing", async (context) => {
  const { board, stack, messages } = await aLiveClient(context);
  stack.catchesUp = false;
  stack.last.drop();
  const faked = Date.now;
  const clock = mock.method(Date, "now", () => faked() - 24 * 60 * MINUTE);
  context.after(() => clock.mock.restore());
  await advance(10 * SECOND);
  assert.equal(stack.sockets.length, 2);
  stack.last.receive(aMessage("1"));
  await advance(SECOND);
  assert.deepEqual(messages, ["1"]);
  await advance(65 * SECOND);

  assert.equal(stack.sockets.length, 3);
  board.close();
});

test("while the page is offline little is attempted, and once it is online at once", async (context) => {
  const page = aPage(context);
  const { board, stack, states } = await aLiveClient(context);
  page.fire("offline");
  assert.equal(board.state, "offline");
  stack.answer = () => "refuse";
  stack.last.drop();
  stack.send("1");
  await advance(10 * MINUTE);
  const attempts = stack.sockets.length - 1;
  assert.ok(attempts > 15 && attempts <= 20, `one in 30 s, and not ${attempts} in 10 minutes`);
  assert.equal(board.state, "offline");

  stack.answer = () => "accept";
  page.fire("online");
  await advance(100);

  assert.equal(stack.sockets.length, 1 + attempts + 1);
  assert.deepEqual(states.slice(3), ["offline", "connecting", "catching_up"]);
});

test("a browser that says offline and is not, is found out", async (context) => {
  const page = aPage(context);
  const { board, stack } = await aLiveClient(context);
  page.fire("offline");
  stack.last.drop();
  await advance(40 * SECOND);

  assert.equal(board.state, "live");
});

for (const type of ["pageshow", "visibilitychange"]) {
  test(`a page that missed that it is online learns it by ${type}`, async (context) => {
    const page = aPage(context);
    const { board, stack } = await aLiveClient(context);
    page.fire("offline");
    stack.last.drop();
    page.isOnLine = true;
    page.fire(type);
    await advance(10 * SECOND);

    assert.equal(board.state, "live");
  });
}

test("a page that is offline from the beginning waits until it is online", async (context) => {
  const page = aPage(context);
  page.isOnLine = false;
  const { board, stack, states } = aClient(context);
  board.open();
  await advance(29 * SECOND);
  assert.deepEqual([states, stack.sockets.length], [["offline"], 0]);
  page.fire("online");
  await advance(6 * SECOND);

  assert.equal(board.state, "live");
});

test("a handshake that is pending when the page goes offline is given up", async (context) => {
  const page = aPage(context);
  const { board, stack } = aClient(context);
  stack.answer = () => "hang";
  board.open();
  await advance(SECOND);
  page.fire("offline");
  assert.ok(stack.last.isClosedByClient);
  stack.answer = () => "accept";
  page.fire("online");
  await advance(6 * SECOND);

  assert.equal(board.state, "live");
});

test("messages of a connection that outlives the page's being offline are handed on", async (context) => {
  const page = aPage(context);
  const { stack, messages } = await aLiveClient(context);
  page.fire("offline");
  stack.send("1");

  assert.deepEqual(messages, ["1"]);
});

test("once the page is online again, a connection of the network before is replaced", async (context) => {
  const page = aPage(context);
  const { board, stack, messages } = await aLiveClient(context);
  page.fire("offline");
  stack.last.lose();
  stack.send("1");
  await advance(SECOND);
  page.fire("online");
  await advance(20 * SECOND);

  assert.equal(board.state, "live");
  assert.deepEqual(stack.open, [stack.last]);
  assert.deepEqual(messages, ["1"]);
});

test("if connections are replaced in quick succession, none is left", async (context) => {
  const page = aPage(context);
  const { stack } = await aLiveClient(context);
  for (const replaced of [1, 2]) {
    page.fire("online");
    await advance(5.5 * SECOND);
    assert.equal(stack.open.length, 2, `${replaced} replaced`);
  }
  await advance(11 * SECOND);

  assert.deepEqual(stack.open, [stack.last]);
});

for (const type of ["visibilitychange", "pageshow"]) {
  test(`${type} does what is due, though no timer has fired yet`, async (context) => {
    const page = aPage(context);
    const { stack } = await aLiveClient(context);
    mock.timers.setTime(Date.now() + 3 * MINUTE);
    page.fire(type);
    await advance(0);

    assert.equal(stack.sockets.length, 2);
  });
}
