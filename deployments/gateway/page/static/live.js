// Events of one's jobs, as they happen.
//
// A browser opens six connections to a host, over all tabs. So one tab has the stream of events, and
// passes them on to the others; when it is closed, the next one takes its place.

import { get, pause, setAway } from "./api.js";

const RETRY = 3000; // ms
const listeners = new Set();
let channel = null;
let source = null;
let generation = 0;

/** Call `listener(kind, data)` for each event, until the returned function is called. */
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Begin to hear the events of a user who is signed in. */
export function start(user) {
  stop();
  const mine = generation;
  const name = `prefecture-events-${user}`;
  channel = new BroadcastChannel(name);
  channel.onmessage = ({ data }) => spread(data.kind, data.data);
  // Without locks, as over plain HTTP on another host, each tab has a stream of its own.
  if (navigator.locks) navigator.locks.request(name, () => listen(mine));
  else listen(mine);
}

/** Hear no events any more. */
export function stop() {
  generation += 1;
  source?.close();
  channel?.close();
  source = channel = null;
}

/** Have the stream, until `stop`. */
async function listen(mine) {
  let isFirst = true;
  while (mine === generation) {
    await new Promise((resolve) => open(mine, isFirst, resolve));
    isFirst = false;
    if (mine !== generation) return;
    await pause(RETRY);
    await get("/me").catch(() => {}); // signs out, where the session is over
  }
}

function open(mine, isFirst, done) {
  source = new EventSource("/v1/events");
  const pass = (kind) => (event) => {
    const data = event.data ? JSON.parse(event.data) : null;
    channel?.postMessage({ kind, data });
    spread(kind, data);
  };
  for (const kind of ["job", "reset", "away", "back"]) source.addEventListener(kind, pass(kind));
  source.addEventListener("open", () => {
    if (!isFirst) pass("reset")({});
    isFirst = false;
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED || mine !== generation) done();
  });
}

function spread(kind, data) {
  if (kind === "away") setAway(true);
  if (kind === "back") setAway(false);
  for (const listener of [...listeners]) listener(kind, data);
}
