/**
 * Switchboard's client, for browsers and Node.js: it stays connected, and hands on what it missed.
 *
 * switchboard.d.ts describes the options, the events and the states.
 */

const SECOND = 1000;
const MINUTE = 60 * SECOND;

/** Milliseconds, and what they are for; the option `timings` replaces some of them. */
const TIMINGS = {
  base: SECOND, // a pause between two attempts is random, up to base * 2 ** failures,
  cap: 30 * SECOND, // and up to this
  stable: 30 * SECOND, // live for so long: the failures before are forgotten
  handshake: 35 * SECOND, // with the token's callback; API Gateway gives a handshake up after 29 s
  moveFrom: 100 * MINUTE, // a connection is replaced at a random age between this
  moveTo: 115 * MINUTE, // and this; API Gateway ends it after 2 h
  lifetime: 120 * MINUTE,
  idle: 10.5 * MINUTE, // nothing received for so long: API Gateway has ended the connection, after 10 min
  overlap: 10 * SECOND, // a connection that was replaced is still read, for what is on its way to it
  quiet: 300, // what is missed is handed on in order after so long without a message,
  longest: 2 * SECOND, // and at the latest so long after it came
  caughtUp: MINUTE, // from the handshake to `caught_up`; doubled each time in a row that it does not come
  check: 30 * SECOND, // between two looks at the clock
  asleep: 2 * MINUTE, // a longer time between two looks was a sleep; hidden pages have a look per minute
};
const MAX_SEEN = 10_000; // ids
const MAX_MISSES = 3; // connections in a row without `caught_up`, of a stack that has sent it before
const NOTHING_DUE = { caughtUpBy: Infinity, stableAt: Infinity };
const PAGE_EVENTS = ["online", "offline", "pageshow", "visibilitychange"];

export class Switchboard extends EventTarget {
  #WebSocket;
  #address; // without `since`
  #storage;
  #ticket;
  #timings;
  #token;

  #isOpen = false;
  #isOffline = false;
  #state = "closed";
  #since = null;
  #seen = new Set(); // ids, the oldest first

  #current = null; // the connection in use
  #next = null; // the one that is being opened, or is catching up before it replaces the current one
  #previous = null; // the one that was replaced
  #failures = 0;
  #attemptAt = Infinity;
  #keepsHistory; // whether the stack sends `caught_up`; undefined: not known yet
  #misses = 0;

  #held = []; // messages that came while catching up
  #heldFrom = Infinity;
  #heldUntil = Infinity;

  #timer;
  #tickedAt = 0;
  #wall = Date.now();
  #setBack = 0;

  constructor(url, { query = {}, token, ticket, storage, timings, WebSocket = globalThis.WebSocket } = {}) {
    super();
    const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
    const pairs = given.map((pair) => pair.map(encodeURIComponent).join("=")).sort();
    this.#address = [url, String(url).includes("?") ? "&" : "?", ...pairs.map((pair) => `${pair}&`)].join("");
    this.#token = token;
    this.#ticket = ticket;
    this.#storage = storage || null;
    this.#timings = { ...TIMINGS, ...timings };
    this.#WebSocket = WebSocket;
    try {
      const stored = this.#storage?.getItem(this.#key);
      if (isSince(stored)) this.#since = stored;
      if (this.#since?.startsWith("@")) this.#keepsHistory = true; // it came with a caught_up
    } catch {} // it is blocked: the memory is enough until the page is left
  }

  get state() {
    return this.#state;
  }

  get since() {
    return this.#since ?? "@now";
  }

  open() {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.#isOffline = globalThis.navigator?.onLine === false;
    this.#failures = 0;
    this.#tickedAt = this.#now();
    this.#attemptAt = this.#isOffline ? this.#tickedAt + this.#timings.cap : this.#tickedAt;
    for (const type of PAGE_EVENTS) globalThis.addEventListener?.(type, this.#onPageEvent);
    this.#tick();
  }

  close() {
    if (this.#isOpen) this.#handOnHeld();
    if (!this.#isOpen) return; // or a listener has closed it
    this.#isOpen = false;
    clearTimeout(this.#timer);
    for (const type of PAGE_EVENTS) globalThis.removeEventListener?.(type, this.#onPageEvent);
    for (const connection of this.#connections) this.#hangUp(connection);
    this.#current = this.#next = this.#previous = null;
    this.#report();
  }

  get #connections() {
    return [this.#previous, this.#current, this.#next].filter(Boolean);
  }

  get #key() {
    return `switchboard ${this.#address}`;
  }

  /** Return epoch milliseconds that never decrease, also if the clock is set back. */
  #now() {
    const wall = Date.now();
    this.#setBack += Math.max(0, this.#wall - wall);
    this.#wall = wall;
    return wall + this.#setBack;
  }

  /** Do all that is due, and set the timer. Timers fire late after a sleep: only the clock counts. */
  #tick = () => {
    const timings = this.#timings;
    const now = this.#now();
    const hasSlept = now - this.#tickedAt > timings.asleep;
    this.#tickedAt = now;
    if (now >= this.#heldUntil) this.#handOnHeld();
    for (const connection of this.#connections) {
      if (now >= Math.min(connection.endsAt, connection.heardAt + timings.idle)) {
        this.#end(connection);
        continue;
      }
      if (now >= connection.caughtUpBy) this.#goOnWithoutCaughtUp(connection);
      if (now >= connection.stableAt) {
        connection.stableAt = Infinity;
        this.#failures = 0;
      }
    }
    if (this.#mayAttempt && now >= this.#moveAt) {
      this.#current.moveAt = Infinity;
      this.#attemptAt = now;
    }
    if (hasSlept && this.#current) this.#attemptAt = now; // the network may have dropped it silently
    if (this.#isOpen && this.#mayAttempt && now >= this.#attemptAt) this.#attempt();
    clearTimeout(this.#timer);
    if (!this.#isOpen) return; // a listener has closed it
    const due = [this.#heldUntil, now + timings.check];
    if (this.#mayAttempt) due.push(this.#attemptAt, this.#moveAt);
    for (const { endsAt, heardAt, caughtUpBy, stableAt } of this.#connections) {
      due.push(endsAt, heardAt + timings.idle, caughtUpBy, stableAt);
    }
    this.#timer = setTimeout(this.#tick, Math.max(0, Math.min(...due) - now));
    this.#report();
  };

  get #mayAttempt() {
    return !this.#next;
  }

  get #moveAt() {
    return this.#current?.moveAt ?? Infinity;
  }

  async #attempt() {
    const connection = { isOpen: false, isLive: false, isCaughtUp: false, heardAt: Infinity, ...NOTHING_DUE };
    connection.endsAt = this.#now() + this.#timings.handshake;
    this.#next = connection;
    this.#attemptAt = Infinity;
    try {
      const [token, ticket] = await Promise.all([this.#token, this.#ticket].map(async (ask) => ask?.()));
      if (connection !== this.#next) return; // given up meanwhile
      const extra = ticket ? `ticket=${encodeURIComponent(ticket)}&` : "";
      const url = `${this.#address}${extra}since=${encodeURIComponent(this.since)}`;
      const socket = new this.#WebSocket(url, token ? ["switchboard", token] : []);
      connection.socket = socket;
      connection.expiresAt = this.#now() + validity(token);
      socket.onopen = () => this.#onOpen(connection);
      socket.onmessage = ({ data }) => this.#onFrame(connection, data);
      // Some versions of Node.js report a refused handshake by an error alone.
      socket.onclose = socket.onerror = () => this.#onEnd(connection);
    } catch (error) {
      this.#dispatch("error", error);
      this.#onEnd(connection);
    }
  }

  #onOpen(connection) {
    const now = this.#now();
    const { moveFrom, moveTo, lifetime, caughtUp } = this.#timings;
    const point = Math.random();
    const moveAfter = Math.min(
      moveFrom + point * (moveTo - moveFrom),
      Math.max(MINUTE / 2, (connection.expiresAt - now) * (0.8 + 0.15 * point)), // before the token expires
    );
    const caughtUpBy = now + caughtUp * 2 ** this.#misses;
    const moveAt = now + moveAfter;
    Object.assign(connection, { isOpen: true, heardAt: now, endsAt: now + lifetime, moveAt, caughtUpBy });
    this.#isOffline = false;
    if (!this.#current) [this.#current, this.#next] = [connection, null];
    if (this.#keepsHistory === false) this.#goLive(connection);
    this.#tick();
  }

  #onFrame(connection, data) {
    connection.heardAt = this.#now();
    let frame = null;
    try {
      frame = JSON.parse(data);
    } catch {} // it is not of Switchboard
    if (typeof frame?.id === "string") this.#take(connection, frame);
    else if (frame?.type === "gap") this.#dispatch("gap", { since: frame.since });
    else if (frame?.type === "keepalive" && connection.isCaughtUp) this.#remember(frame.since);
    else if (frame?.type === "caught_up") {
      this.#keepsHistory = true;
      this.#misses = 0;
      if (!connection.isLive) this.#goLive(connection);
      connection.isCaughtUp = true;
      this.#remember(frame.since);
    }
    this.#tick();
  }

  #onEnd(connection) {
    this.#end(connection);
    this.#tick();
  }

  #take(connection, message) {
    if (this.#seen.has(message.id)) return;
    this.#seen.add(message.id);
    if (this.#seen.size > MAX_SEEN) this.#seen.delete(this.#seen.values().next().value);
    if (this.#current?.isLive) {
      this.#handOn(message);
      if (connection.isCaughtUp) this.#remember(message.id);
      return;
    }
    const now = this.#now();
    if (!this.#held.length) this.#heldFrom = now;
    this.#held.push(message);
    this.#heldUntil = Math.min(now + this.#timings.quiet, this.#heldFrom + this.#timings.longest);
  }

  #handOnHeld() {
    this.#heldUntil = Infinity;
    this.#held.sort((one, other) => (one.time < other.time ? -1 : Number(one.time > other.time)));
    while (this.#held.length) this.#handOn(this.#held.shift());
  }

  #handOn(message) {
    this.#dispatch("message", message);
    if (this.#since === null) this.#remember(message.id); // after a break, "@now" would skip what follows
  }

  #remember(since) {
    if (!isSince(since)) return; // the stack would refuse the next handshake
    this.#since = since;
    try {
      this.#storage?.setItem(this.#key, since);
    } catch {} // it is full or blocked: a page that is loaded again begins earlier
  }

  #goLive(connection) {
    const { overlap, stable } = this.#timings;
    const now = this.#now();
    this.#handOnHeld();
    Object.assign(connection, { isLive: true, caughtUpBy: Infinity, stableAt: now + stable });
    this.#attemptAt = Infinity;
    if (connection !== this.#next) return;
    if (this.#previous) this.#end(this.#previous);
    this.#previous = Object.assign(this.#current, NOTHING_DUE, { isLive: true, endsAt: now + overlap });
    [this.#current, this.#next] = [connection, null];
  }

  #goOnWithoutCaughtUp(connection) {
    connection.caughtUpBy = Infinity;
    if (!this.#keepsHistory || ++this.#misses > MAX_MISSES) {
      this.#keepsHistory = false;
      this.#misses = 0;
      this.#goLive(connection); // `since` stays until a `caught_up`, so nothing is skipped
    } else if (connection === this.#next) this.#end(connection);
    else this.#retry(); // until then, this one is better than none
  }

  #end(connection) {
    if (!this.#connections.includes(connection)) return;
    this.#hangUp(connection);
    if (connection === this.#previous) this.#previous = null;
    else if (connection === this.#next) {
      this.#next = null;
      this.#retry();
    } else if (this.#next?.isOpen) [this.#current, this.#next] = [this.#next, null];
    else {
      this.#current = null;
      if (!this.#next) this.#retry();
    }
  }

  #hangUp({ socket }) {
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {}; // npm's ws throws an error that nobody listens to
    socket.close();
  }

  /** Attempt after a pause with full jitter; the longest one if the browser says that it is offline. */
  #retry() {
    const { base, cap } = this.#timings;
    const pause = this.#isOffline ? cap : Math.random() * Math.min(cap, base * 2 ** this.#failures++);
    this.#attemptAt = Math.min(this.#attemptAt, this.#now() + pause);
  }

  #onPageEvent = ({ type }) => {
    if (type === "offline") {
      this.#isOffline = true;
      if (this.#next && !this.#next.isOpen) this.#end(this.#next);
    } else if (type === "online" || (this.#isOffline && globalThis.navigator?.onLine)) {
      this.#isOffline = false; // an event may have been missed while the page was frozen
      this.#attemptAt = this.#now(); // also if there is a connection: it may be of the network before
    }
    this.#tick();
  };

  #report() {
    const connected = this.#current && (this.#current.isLive ? "live" : "catching_up");
    const online = connected || (this.#next ? "connecting" : "waiting");
    const state = !this.#isOpen ? "closed" : this.#isOffline ? "offline" : online;
    if (state === this.#state) return;
    this.#state = state;
    this.#dispatch("state", state);
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Return whether the stack takes a value as `since`: a position or an id. */
function isSince(value) {
  return typeof value === "string" && /^(@\d{1,13}|[^@\p{Cc}]\P{Cc}{0,127})$/u.test(value);
}

/** Return for how many more milliseconds a token is good, by its claims; Infinity if they don't say. */
function validity(token) {
  try {
    const claims = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    const lifetime = (claims.exp - claims.iat) * SECOND;
    const left = claims.exp * SECOND - Date.now();
    if (!(lifetime > 0)) return left > 0 ? left : Infinity; // it does not say when it was issued
    return left > 0 && left < lifetime ? left : lifetime; // else this machine's clock is wrong
  } catch {
    return Infinity;
  }
}
