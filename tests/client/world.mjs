/** What the client's tests share: a stack that speaks the protocol, a page, and time that they advance. */

import assert from "node:assert/strict";
import { mock } from "node:test";
import { setImmediate } from "node:timers/promises";

import { Switchboard } from "../../infra/client/switchboard.js";

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const URL = "wss://stack.example.com/prod";

const INDEX_LAG = 5 * SECOND;
const HANDSHAKE = 10; // ms
const SHOWN_AFTER = SECOND; // after a handshake, until the index shows a connection to those that send

/** A stack with a history, whose clients are in this process. */
export class FakeStack {
  sockets = []; // all that were ever created
  answer = () => "accept"; // or "refuse", "refuse by an error alone", "hang"
  keepsHistory = true;
  catchesUp = true;
  keptFor = 15 * MINUTE;
  history = [];

  constructor() {
    const stack = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url, protocols) {
        super(stack, url, protocols);
      }
    };
  }

  get last() {
    return this.sockets.at(-1);
  }

  get open() {
    return this.sockets.filter((socket) => socket.isOpen);
  }

  /** Send a message to all that are connected, and keep it. */
  send(id, { time = Date.now(), to = this.open } = {}) {
    const message = aMessage(id, time);
    this.history.push({ at: Date.now(), message });
    for (const socket of to) if (Date.now() >= socket.openedAt + SHOWN_AFTER) socket.receive(message);
  }

  accept(socket) {
    socket.open();
    if (!this.keepsHistory || !this.catchesUp) return;
    const since = new Map(new globalThis.URL(socket.url).searchParams).get("since");
    const known = this.history.find(({ message }) => message.id === since)?.at;
    const from = since === "@now" ? Date.now() : since[0] === "@" ? Number(since.slice(1)) : known;
    const reach = Date.now() - this.keptFor;
    if (from === undefined || from < reach) socket.receive({ type: "gap", since });
    this.#look(socket, Math.max(from ?? reach, reach));
    const began = Date.now();
    setTimeout(() => {
      this.#look(socket, began - INDEX_LAG);
      socket.receive({ type: "caught_up", since: `@${Date.now()}` });
    }, INDEX_LAG);
  }

  #look(socket, from) {
    for (const { at, message } of this.history) if (at >= from) socket.receive(message);
  }
}

class FakeSocket {
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  isOpen = false; // as the stack sees it
  isClosedByClient = false;
  openedAt = Infinity;
  createdAt = Date.now();

  constructor(stack, url, protocols) {
    Object.assign(this, { url, protocols });
    stack.sockets.push(this);
    const answer = stack.answer(this);
    setTimeout(() => {
      if (this.isClosedByClient) return;
      if (answer === "accept") stack.accept(this);
      if (answer.startsWith("refuse")) this.onerror?.({});
      if (answer === "refuse") this.onclose?.({ code: 1006 });
    }, HANDSHAKE);
  }

  get since() {
    return new globalThis.URL(this.url).searchParams.get("since");
  }

  open() {
    this.isOpen = true;
    this.openedAt = Date.now();
    this.onopen?.({});
  }

  receive(frame) {
    const data = typeof frame === "string" ? frame : JSON.stringify(frame);
    if (this.isOpen) this.onmessage?.({ data });
  }

  /** End the connection, with a close event. */
  drop() {
    this.isOpen = false;
    this.onclose?.({ code: 1006 });
  }

  /** End the connection without an event: a half-open one. */
  lose() {
    this.isOpen = false;
  }

  close() {
    this.isOpen = false;
    this.isClosedByClient = true;
  }
}

/** A stored text per key, as localStorage has it. */
export class FakeStorage {
  items = new Map();

  getItem(key) {
    return this.items.get(key) ?? null;
  }

  setItem(key, value) {
    this.items.set(key, value);
  }
}

/** Give this process the events of a page; return what dispatches them. */
export function aPage(context) {
  const page = {
    target: new EventTarget(),
    listeners: 0,
    fire: (type) => page.target.dispatchEvent(new Event(type)),
  };
  globalThis.addEventListener = (type, listener) => {
    page.listeners += 1;
    page.target.addEventListener(type, listener);
  };
  globalThis.removeEventListener = (type, listener) => {
    page.listeners -= 1;
    page.target.removeEventListener(type, listener);
  };
  const navigator = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  page.isOnLine = true;
  Object.defineProperty(globalThis, "navigator", {
    configurable: true,
    value: {
      get onLine() {
        return page.isOnLine;
      },
    },
  });
  context.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
    delete globalThis.navigator;
    if (navigator) Object.defineProperty(globalThis, "navigator", navigator);
  });
  return page;
}

export function aMessage(id, time = Date.now()) {
  return { id, time: new Date(time).toISOString(), type: "incident.opened", data: null };
}

/** Let the tests of *context* advance the time, and pick what Math.random returns. */
export function fakeTime(context, random = 0.5) {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.UTC(2026, 10, 29) });
  const fakeRandom = mock.method(Math, "random", () => random);
  context.after(() => {
    mock.timers.reset();
    fakeRandom.mock.restore();
  });
}

/** Advance the time in steps, so that a timer does not see that others are late. */
export async function advance(
  milliseconds,
  step = Math.min(milliseconds, milliseconds > 2 * MINUTE ? SECOND : 10),
) {
  for (let left = milliseconds; left > 0; left -= step) {
    await setImmediate(); // what was promised
    mock.timers.tick(Math.min(step, left));
  }
  await setImmediate();
}

/** A sleep: the clock goes on, and the timers fire late. */
export async function sleep(milliseconds) {
  mock.timers.tick(milliseconds);
  await setImmediate();
}

/** A client of a new stack; all that it has handed on is recorded. */
export function aClient(context, { stack = new FakeStack(), url = URL, random, ...options } = {}) {
  if (context) fakeTime(context, random);
  const board = new Switchboard(url, { WebSocket: stack.WebSocket, ...options });
  const client = { board, stack, messages: [], states: [], gaps: [], errors: [] };
  board.addEventListener("message", ({ detail }) => client.messages.push(detail.id));
  board.addEventListener("state", ({ detail }) => client.states.push(detail));
  board.addEventListener("gap", ({ detail }) => client.gaps.push(detail));
  board.addEventListener("error", ({ detail }) => client.errors.push(detail));
  return client;
}

/** A client that is live. */
export async function aLiveClient(context, options) {
  const client = aClient(context, options);
  client.board.open();
  await advance(6 * SECOND);
  return client;
}

/** Advance the time until *isTrue*. */
export async function until(isTrue, within = 30 * MINUTE) {
  for (let passed = 0; !isTrue(); passed += SECOND) {
    assert.ok(passed < within, `${isTrue} is still not true`);
    await advance(SECOND);
  }
}
