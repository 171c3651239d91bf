/**
 * A process that follows a stack, for tests: node follow.mjs URL OPTIONS
 *
 * Each event is a line of JSON. Once its standard input closes, it closes the client, and so ends.
 */

import { Switchboard } from "../../infra/client/switchboard.js";

const [url, options] = process.argv.slice(2);
const { token, ...rest } = JSON.parse(options);
const board = new Switchboard(url, { ...rest, token: token && (() => token) });

for (const type of ["message", "gap", "state", "error"]) {
  board.addEventListener(type, ({ detail }) => {
    console.log(JSON.stringify({ [type]: type === "error" ? String(detail) : detail }));
  });
}
process.stdin.resume().on("end", () => board.close());
board.open();
