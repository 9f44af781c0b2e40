// Requests to the gateway, and whether it and the server behind it answer.

const WAIT = 3000; // ms between two looks whether the server is back
const TRIES = 5; // of a request that comes too soon

/** An error that the gateway has answered with: one line that says what to change. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Hears "signed-out", "away" and "back". */
export const connection = new EventTarget();
let isAway = false;

/** Whether the server is away, as far as is known. */
export function away() {
  return isAway;
}

/** Send a request. Resolves to what the answer holds; throws a Problem. */
export async function request(method, path, body) {
  for (let tried = 1; ; tried += 1) {
    const answer = await send(method, path, body);
    if (answer.ok) {
      setAway(false);
      return answer.status === 204 ? null : answer.json();
    }
    const detail = await reason(answer);
    if (answer.status === 429 && tried < TRIES) {
      await pause(1000 * Number(answer.headers.get("Retry-After") ?? 1));
      continue;
    }
    if (answer.status === 401) tell("signed-out");
    if (answer.status === 503) setAway(true);
    throw new Problem(answer.status, detail);
  }
}

export const get = (path) => request("GET", path);
export const post = (path, body) => request("POST", path, body ?? {});
export const del = (path) => request("DELETE", path);

/** The headers of a request that changes something. */
export const OURS = { "X-Prefecture-Page": "1" };

async function send(method, path, body) {
  const headers = method === "GET" ? {} : { ...OURS };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(`/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    setAway(true);
    throw new Problem(0, "the gateway does not answer");
  }
}

/** The line of an answer that is an error. */
export async function reason(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).detail ?? text;
  } catch {
    return text.trim() || `the gateway answered ${answer.status}`;
  }
}

/** Note that the server is away, or is back; while it is away, look for it. */
export function setAway(value) {
  if (value === isAway) return;
  isAway = value;
  tell(value ? "away" : "back");
  if (value) look();
}

async function look() {
  while (isAway) {
    await pause(WAIT);
    // It asks the server behind the gateway, and is answered for all who ask at a time.
    await get("/overview").catch(() => {});
  }
}

function tell(kind) {
  connection.dispatchEvent(new Event(kind));
}

export function pause(time) {
  return new Promise((resolve) => setTimeout(resolve, time));
}

/** Do `work` for each, a few at a time. Resolves to the errors. */
export async function forEach(items, work, atOnce = 4) {
  const queue = [...items];
  const errors = [];
  const take = async () => {
    while (queue.length) {
      try {
        await work(queue.shift());
      } catch (error) {
        errors.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, take));
  return errors;
}
