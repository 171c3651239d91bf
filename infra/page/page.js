/** The page: who is connected, the form for alerts, and the dashboards in their frames. */

const FIRST = [
  { clientId: "wall-kr", account: "111122223333", region: "ap-northeast-2" },
  { clientId: "wall-us", account: "444455556666", region: "us-east-1" },
];
const CLOCK = { timeStyle: "medium", hourCycle: "h23" };

const find = (selector) => document.querySelector(selector);

/* Who is connected */

let known; // clientId by connectionId; undefined until the first list

function showConnections(connections) {
  find("#connected tbody").replaceChildren(...connections.map(rowOf));
  const now = new Map(connections.map((it) => [it.connectionId, it.clientId]));
  const words = [`${now.size} connected.`];
  if (known) {
    const came = [...now].filter(([id]) => !known.has(id)).map(([, name]) => name);
    const went = [...known].filter(([id]) => !now.has(id)).map(([, name]) => name);
    if (went.length) words.push(`${went.join(", ")} disconnected.`);
    if (came.length) words.push(`${came.join(", ")} connected.`);
  }
  find("#connected [role=status]").textContent = words.join(" ");
  known = now;
}

function rowOf({ clientId, account, region, sourceIp, createdAt }) {
  const row = document.createElement("tr");
  const since = document.createElement("time");
  since.dateTime = new Date(createdAt).toISOString();
  since.textContent = new Date(createdAt).toLocaleTimeString([], CLOCK);
  for (const content of [clientId, account || "none", region || "all", sourceIp, since]) {
    row.insertCell().append(content);
  }
  return row;
}

const lists = new EventSource("connections");
lists.addEventListener("message", (event) => showConnections(JSON.parse(event.data)));
lists.addEventListener("error", () => {
  find("#connected [role=status]").textContent = "The stack does not answer. This is the last list.";
});

/* The alert */

find("#alert").addEventListener("submit", async (event) => {
  event.preventDefault();
  const status = event.target.querySelector("[role=status]");
  say(status, "Sending…");
  try {
    const answer = await fetch("alerts", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(Object.fromEntries(new FormData(event.target))),
    });
    if (!answer.ok) return say(status, await answer.text(), true);
    const { selected, delivered } = await answer.json();
    const counts = `Sent to ${delivered} of ${selected} connections.`;
    say(status, selected ? counts : "Nobody watches that account and region.");
  } catch {
    say(status, "The page's server does not answer.", true);
  }
});

function say(status, sentence, isError = false) {
  status.textContent = sentence;
  status.classList.toggle("error", isError);
}

/* The dashboards */

find("#open").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const status = form.querySelector("[role=status]");
  try {
    const query = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
    const answer = await fetch(`dashboard.html?${new URLSearchParams(query)}`);
    if (!answer.ok) return say(status, await answer.text(), true);
    openDashboard(query);
    say(status, `${query.clientId} is open.`);
    form.clientId.value = `wall-${find("#dashboards ul").children.length + 1}`;
  } catch {
    say(status, "The page's server does not answer.", true);
  }
});

function openDashboard(query) {
  const card = find("#card").content.cloneNode(true).firstElementChild;
  const { clientId, account, region } = query;
  const close = card.querySelector("button");
  card.querySelector("h3").textContent = clientId;
  card.querySelector("p").textContent = `${account} · ${region || "all regions"}`;
  close.setAttribute("aria-label", `Close ${clientId}`);
  close.addEventListener("click", () => {
    card.remove();
    find("#dashboards-title").focus();
  });
  const frame = card.querySelector("iframe");
  frame.title = `Dashboard ${clientId}`;
  frame.src = `dashboard.html?${new URLSearchParams(query)}`;
  find("#dashboards ul").append(card);
}

FIRST.forEach(openDashboard);
const { webSocketUrl } = await (await fetch("settings")).json();
find("#address").textContent = webSocketUrl;
