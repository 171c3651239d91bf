/** A message. `time` is ISO 8601 in UTC with milliseconds: the order of the texts is that of the times. */
export interface Message<Data = unknown> {
  readonly id: string;
  readonly time: string;
  readonly type: string;
  readonly data: Data;
}

/** The history does not reach back to `since`: messages after it may be missing. */
export interface Gap {
  readonly since: string;
}

/**
 * - `connecting`: a handshake is pending, and there is no connection.
 * - `catching_up`: connected; messages that were missed are handed on in the order of `time`, up to 2 s late.
 * - `live`: nothing is missing, and messages are handed on at once.
 * - `waiting`: for the next attempt.
 * - `offline`: the browser says so. It may be wrong, so an attempt is made every 30 s.
 * - `closed`: before `open()` and after `close()`.
 */
export type State = "connecting" | "catching_up" | "live" | "waiting" | "offline" | "closed";

export interface SwitchboardEvents<Data = unknown> {
  message: CustomEvent<Message<Data>>;
  gap: CustomEvent<Gap>;
  state: CustomEvent<State>;
  /** What `token` or `ticket` rejected with, or the WebSocket's constructor threw. It will be tried again. */
  error: CustomEvent<unknown>;
}

/** Milliseconds. Tests replace them; others should have a reason. */
export interface Timings {
  /** A pause between two attempts is random, from 0 to base * 2 ** failures (1,000), */
  base: number;
  /** and up to this (30,000). */
  cap: number;
  /** A connection that was live for so long makes the pauses short again (30,000). */
  stable: number;
  /** A handshake, with the token's callback, is given up after so long (35,000). */
  handshake: number;
  /** A connection is replaced at a random age between this (100 minutes) */
  moveFrom: number;
  /** and this (115 minutes). */
  moveTo: number;
  /** An older connection has ended, whatever it seems (2 hours: API Gateway's limit). */
  lifetime: number;
  /** So has one that was silent for so long (10.5 minutes; API Gateway's limit is 10). */
  idle: number;
  /** A connection that was replaced is read for so much longer (10,000). */
  overlap: number;
  /** While catching up, messages are handed on after so long without one (300), */
  quiet: number;
  /** and none later than so long after it came (2,000). */
  longest: number;
  /** `caught_up` is waited for so long (60,000), twice as long each time in a row that it does not come. */
  caughtUp: number;
  /** The clock is looked at so often (30,000). */
  check: number;
  /** A longer time between two looks was a sleep (120,000). */
  asleep: number;
}

export interface Options {
  /** Query parameters: `clientId`, `account`, `region` and your own. `since` is added. */
  query?: Readonly<Record<string, string | number | boolean | null | undefined>>;
  /** Returns a token. It is called before each handshake. It is sent as the second subprotocol. */
  token?: () => string | null | undefined | Promise<string | null | undefined>;
  /** Returns a ticket, which is good once. It is called before each handshake. It is sent in the query. */
  ticket?: () => string | null | undefined | Promise<string | null | undefined>;
  /**
   * Where `since` is kept across reloads, under a key of the URL and the query; by default nowhere. Use
   * `localStorage` if the page keeps its messages there, too; `sessionStorage` if each tab keeps its own.
   */
  storage?: Pick<Storage, "getItem" | "setItem"> | false | null;
  /** By default that of the browser or of Node.js 22; for Node.js 20, that of npm's ws. */
  WebSocket?: new (url: string, protocols: string[]) => WebSocketLike;
  timings?: Partial<Timings>;
}

/** What is used of a WebSocket. */
export interface WebSocketLike {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  close(): void;
}

/**
 * A client that stays connected to a stack, and hands on what it missed.
 *
 * - A message that comes twice is handed on once: the last 10,000 ids are known until the page is left.
 * - After a break it says `since`, and the stack sends what was missed. `since` is the id of the message
 *   handed on last, or the position of `caught_up`; from a handshake until `caught_up` it stays.
 * - A connection is replaced before API Gateway ends it after 2 hours, before its token expires, after a
 *   sleep, and when the page is online again: the new one is caught up before the old one is closed.
 * - If a stack that has sent `caught_up` before does not send it within 60 s, the client connects again, and
 *   keeps the old connection until the new one is caught up. After four times in a row, or if the stack has
 *   never sent it, the stack counts as one without a history: the client is live without `caught_up`. `since`
 *   stays all the same, so that nothing is skipped if it comes later.
 */
export class Switchboard<Data = unknown> extends EventTarget {
  constructor(url: string | URL, options?: Options);

  readonly state: State;

  /** What the next handshake says: the id of a message, a position (`@`, epoch milliseconds), or `@now`. */
  readonly since: string;

  /** Connect. Listeners should be added before. */
  open(): void;

  /**
   * Hand on what is held, and end everything: no timer, listener or connection is left. After `open()`, it
   * goes on from there.
   */
  close(): void;

  addEventListener<Type extends keyof SwitchboardEvents<Data>>(
    type: Type,
    listener:
      | ((this: this, event: SwitchboardEvents<Data>[Type]) => void)
      | { handleEvent(event: SwitchboardEvents<Data>[Type]): void }
      | null,
    options?: boolean | AddEventListenerOptions,
  ): void;

  removeEventListener<Type extends keyof SwitchboardEvents<Data>>(
    type: Type,
    listener:
      | ((this: this, event: SwitchboardEvents<Data>[Type]) => void)
      | { handleEvent(event: SwitchboardEvents<Data>[Type]): void }
      | null,
    options?: boolean | EventListenerOptions,
  ): void;
}
