/**
 * A network that fails as a real one does, for the WebSockets of this window.
 *
 * While it is cut, an open socket is silent in both directions and sends no close frame, so that the server
 * holds the connection for alive (half-open). A new connection fails. Once the network is back, the sockets
 * from before are gone.
 */

const sockets = new Set();
let isCut = false;

export class CuttableWebSocket extends WebSocket {
  #isLost = false;

  constructor(url, protocols) {
    if (isCut) return new Unreachable(url);
    super(url, protocols);
    sockets.add(this);
    // The first listeners: while the network is cut, no other gets the browser's events.
    for (const type of ["open", "message", "error", "close"]) {
      this.addEventListener(type, (event) => {
        if (this.#isLost && event.isTrusted) event.stopImmediatePropagation();
      });
    }
    this.addEventListener("close", () => sockets.delete(this));
  }

  get readyState() {
    return this.#isLost ? WebSocket.CLOSING : super.readyState;
  }

  send(data) {
    if (!this.#isLost) super.send(data);
  }

  close(code, reason) {
    if (!this.#isLost) super.close(code, reason);
  }

  lose() {
    this.#isLost = true;
  }

  end() {
    super.close();
    this.dispatchEvent(new CloseEvent("close", { code: 1006 }));
  }
}

/** What a connection is that can't be opened: an error and a close event (WebSockets Standard, 4). */
class Unreachable extends EventTarget {
  readyState = WebSocket.CONNECTING;
  protocol = "";

  constructor(url) {
    super();
    this.url = url;
    setTimeout(() => {
      this.readyState = WebSocket.CLOSED;
      for (const event of [new Event("error"), new CloseEvent("close", { code: 1006 })]) {
        this[`on${event.type}`]?.(event);
        this.dispatchEvent(event);
      }
    });
  }

  send() {}

  close() {}
}

/** Cut the network; the window gets the event that a browser gives it. */
export function cut() {
  isCut = true;
  for (const socket of sockets) socket.lose();
  dispatchEvent(new Event("offline"));
}

/** Restore the network. */
export function restore() {
  isCut = false;
  for (const socket of sockets) socket.end();
  dispatchEvent(new Event("online"));
}
