/** One dashboard: its connection, its alerts by their time, and a network that can be cut. */

import { Switchboard } from "./switchboard.js";
import { CuttableWebSocket, cut, restore } from "./network.js";

const STATES = {
  connecting: "Connecting",
  catching_up: "Catching up",
  live: "Live",
  waiting: "Waiting to connect again",
  offline: "Offline",
  closed: "Closed",
};
const MOST = 200; // alerts in the list
const CLOCK = { timeStyle: "medium", hourCycle: "h23" };

const find = (selector) => document.querySelector(selector);
const query = Object.fromEntries(new URLSearchParams(location.search));
const { webSocketUrl } = await (await fetch("settings")).json();
const board = new Switchboard(webSocketUrl, { query, WebSocket: CuttableWebSocket });

document.title = `Dashboard ${query.clientId}`;
find("h1").textContent = document.title;

let connectedAt = ""; // ISO 8601, as the messages' times are

board.addEventListener("state", ({ detail }) => {
  if (detail === "catching_up") connectedAt = new Date().toISOString();
  find("#state").dataset.state = detail;
  find("#state").textContent = STATES[detail];
});

const received = new Set(); // ids: a message may come twice

board.addEventListener("message", ({ detail }) => {
  if (received.has(detail.id)) return;
  received.add(detail.id);
  const older = [...find("#alerts").children].find((it) => it.dataset.time <= detail.time);
  const isMissed = board.state === "catching_up" && detail.time < connectedAt;
  find("#alerts").insertBefore(itemOf(detail, isMissed), older ?? null);
  find("#alerts").children[MOST]?.remove();
  find("#count").textContent = received.size === 1 ? "1 alert" : `${received.size} alerts`;
});

board.addEventListener("gap", () => {
  const now = new Date().toLocaleTimeString([], CLOCK);
  find("#gap").textContent = `At ${now} the history did not reach back far enough: alerts may be missing.`;
});

find("#network").addEventListener("click", ({ target }) => {
  const isToBeCut = target.textContent === "Cut network";
  target.textContent = isToBeCut ? "Restore network" : "Cut network";
  (isToBeCut ? cut : restore)();
});

function itemOf({ time, type, data }, isMissed) {
  const item = document.createElement("li");
  item.dataset.time = time; // ISO 8601 in UTC: the order of the text is that of the times
  item.dataset.severity = data?.severity ?? "";
  const text = data?.text ?? data?.title ?? JSON.stringify(data);
  const when = element("time", new Date(time).toLocaleTimeString([], CLOCK));
  when.dateTime = time;
  const facts = element("p", element("span", data?.severity ?? type), when);
  if (isMissed) facts.append(element("em", "caught up"));
  item.append(element("p", text), facts);
  return item;
}

function element(name, ...content) {
  const made = document.createElement(name);
  made.append(...content);
  return made;
}

board.open();
