import assert from "node:assert/strict";
import { test } from "node:test";

import { advance, aLiveClient, aPage, MINUTE, SECOND, sleep, until } from "./world.mjs";

/** Pseudorandom numbers from 0 to 1 (mulberry32). */
function numbersOf(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

for (let seed = 1; seed <= 12; seed += 1) {
  test(`whatever fails, each message is handed on once: seed ${seed}`, async (context) => {
    const page = aPage(context);
    const numbers = numbersOf(seed);
    const { board, stack, messages, gaps } = await aLiveClient(context, { random: numbers() });
    stack.keptFor = Infinity;
    stack.answer = () =>
      numbers() < 0.2 ? ["refuse", "refuse by an error alone", "hang"][Math.floor(numbers() * 3)] : "accept";
    const sent = [];
    const faults = [
      () => stack.last.drop(),
      () => stack.last.lose(),
      () => sleep(5 * MINUTE),
      () => page.fire("offline"),
      () => page.fire("online"),
      () => (stack.catchesUp = !stack.catchesUp),
      () => advance(11 * MINUTE),
    ];
    for (let round = 0; round < 100; round += 1) {
      sent.push(`${round}`);
      stack.send(`${round}`);
      await advance(numbers() * 3 * SECOND, 100);
      if (numbers() < 0.3) await faults[Math.floor(numbers() * faults.length)]();
    }

    stack.answer = () => "accept";
    stack.catchesUp = true;
    page.fire("online");
    await advance(20 * MINUTE);
    await until(() => board.state === "live");

    assert.deepEqual(gaps, []);
    assert.deepEqual([...messages].sort(), [...sent].sort());
    board.close();
  });
}
