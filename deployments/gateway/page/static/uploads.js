// Uploads of files into the user's own folder, which go on where they broke off.

import { get, OURS, pause } from "./api.js";
import { encoded } from "./words.js";

const AT_ONCE = 3;
const RETRIES = 8; // with nothing arriving in between
const LONGEST_PAUSE = 15_000; // ms
const BUSY = 600_000; // ms for which the gateway may take what has arrived to S3
const TOO_MANY = 429;
const CONFLICT = 409;
const PASSING = [0, 408, 422, 429, 502, 503, 504]; // 422: the body broke off

const running = new Set();

// Files that are chosen once more after a reload begin anew.
window.addEventListener("beforeunload", (event) => running.size && event.preventDefault());

/** Some files on their way into one folder. Dispatches "progress"; `done` settles once. */
export class Upload extends EventTarget {
  /** `files`: each a File and its path below the folder. */
  constructor(folder, files) {
    super();
    this.folder = folder;
    this.items = files.map(({ file, path }) => ({ file, path, sent: 0, error: "", source: "" }));
    this.stopped = false;
    this.requests = new Set();
    this.done = this.run();
  }

  get total() {
    return this.items.reduce((sum, item) => sum + item.file.size, 0);
  }

  get sent() {
    return this.items.reduce((sum, item) => sum + item.sent, 0);
  }

  get errors() {
    return this.items.filter((item) => item.error);
  }

  /** What a payload names: the file, where it is one, else the folder. */
  get source() {
    const arrived = this.items.filter((item) => item.source);
    if (!arrived.length) return "";
    if (this.items.length === 1) return arrived[0].source;
    const { source, path } = arrived[0];
    return source.slice(0, source.length - path.length - 1);
  }

  /** Give up what has not arrived. */
  stop() {
    this.stopped = true;
    for (const each of this.requests) each.abort();
  }

  async run() {
    const queue = [...this.items];
    const take = async () => {
      while (queue.length && !this.stopped) await this.send(queue.shift());
    };
    running.add(this);
    await Promise.all(Array.from({ length: AT_ONCE }, take)).finally(() => running.delete(this));
    this.changed();
  }

  changed() {
    this.dispatchEvent(new Event("progress"));
  }

  async send(item) {
    const address = `/v1/inputs/${encoded(`${this.folder}/${item.path}`)}`;
    const begun = Date.now();
    let failures = 0;
    let before = -1;
    let isAgain = false;
    while (!this.stopped) {
      const offset = failures ? await arrived(address) : 0;
      failures = offset > before ? 1 : failures + 1;
      before = Math.max(before, offset);
      const answer = await this.put(address, item, offset);
      if (answer.status === 201) {
        item.sent = item.file.size;
        item.source = answer.body.source;
        item.error = "";
        return this.changed();
      }
      item.error = answer.detail;
      if (answer.status === CONFLICT && isAgain) {
        // An earlier request has all of it: its answer was lost, or is still to come.
        item.source = await there(`${this.folder}/${item.path}`, item.file.size);
        if (item.source) {
          item.sent = item.file.size;
          item.error = "";
          return this.changed();
        }
        if (offset === item.file.size && Date.now() - begun < BUSY) {
          await pause(LONGEST_PAUSE / 5);
          continue;
        }
      }
      isAgain = true;
      if (!PASSING.includes(answer.status) || failures > RETRIES || item.file.size === 0) break;
      const seconds = answer.status === TOO_MANY ? answer.wait : 2 ** (failures - 2);
      await pause(Math.min(LONGEST_PAUSE, 1000 * seconds));
    }
    if (this.stopped) item.error = "stopped";
    this.changed();
  }

  /** Send the rest of a file. fetch() does not tell how much of a body was sent; this does. */
  put(address, item, offset) {
    return new Promise((resolve) => {
      const sending = new XMLHttpRequest();
      this.requests.add(sending);
      sending.open("PUT", address);
      for (const [name, value] of Object.entries(OURS)) sending.setRequestHeader(name, value);
      // Else the browser says what it takes the file for, and an archive would be unpacked.
      sending.setRequestHeader("Content-Type", "application/octet-stream");
      if (offset) sending.setRequestHeader("Upload-Offset", String(offset));
      sending.upload.onprogress = ({ loaded }) => {
        item.sent = Math.min(item.file.size, offset + loaded);
        this.changed();
      };
      sending.onloadend = () => {
        this.requests.delete(sending);
        resolve(outcome(sending));
      };
      sending.send(offset ? item.file.slice(offset) : item.file);
    });
  }
}

function outcome(sending) {
  const wait = Number(sending.getResponseHeader("Retry-After") ?? 1);
  let body = {};
  try {
    body = JSON.parse(sending.responseText);
  } catch {
    // A proxy's own page, or nothing.
  }
  const detail = body.detail ?? (sending.status ? `refused: ${sending.status}` : "the connection broke off");
  return { status: sending.status, body, detail, wait };
}

/** How many bytes of a file have arrived. */
async function arrived(address) {
  try {
    const answer = await fetch(address, { method: "HEAD" });
    return Number(answer.headers.get("Upload-Offset") ?? 0);
  } catch {
    return 0;
  }
}

/** What a payload names for a file that is there with so many bytes; nothing where it is not. */
async function there(path, size) {
  const listed = await get(`/inputs?under=${encodeURIComponent(path)}`).catch(() => []);
  return listed.find((each) => each.path === path && each.bytes === size)?.source ?? "";
}

/** A folder for files that are uploaded together: `2026-01-31-140500-x7f`. */
export function newFolder(now = new Date()) {
  const two = (number) => String(number).padStart(2, "0");
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  const time = `${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
  return `${day}-${time}-${Math.random().toString(36).slice(2, 5)}`;
}

/** The files that were chosen or dropped, with their paths; those of folders too. */
export async function filesOf(transfer) {
  const entries = [...(transfer.items ?? [])]
    .filter((item) => item.kind === "file")
    .map((item) => item.webkitGetAsEntry?.())
    .filter(Boolean);
  if (!entries.length) return chosen(transfer.files);
  const found = [];
  for (const entry of entries) await walk(entry, "", found);
  return named(found);
}

/** The files of an input. */
export function chosen(files) {
  return named([...files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
}

async function walk(entry, folder, found) {
  const path = folder ? `${folder}/${entry.name}` : entry.name;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, path });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const each of some) await walk(each, path, found);
  }
}

/** Without hidden files, which no source reads; two of a name get a number. */
function named(files) {
  const taken = new Set();
  return files
    .filter(({ path }) => !path.split("/").some((part) => part.startsWith(".")))
    .map(({ file, path }) => {
      // The joiners are in words and emoji.
      let name = path.normalize("NFC").replace(/[\\\p{Cc}\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/gu, "_");
      for (let number = 2; taken.has(name); number += 1) {
        name = path.replace(/(\.[^./]*)?$/, `-${number}$1`);
      }
      taken.add(name);
      return { file, path: name };
    });
}

