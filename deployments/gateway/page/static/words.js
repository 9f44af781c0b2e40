// Numbers, times and states in plain words.

const WORDS = {
  scheduled: "Scheduled",
  waiting: "Waiting",
  blocked: "After other jobs",
  held: "Held",
  starting: "Starting",
  running: "Running",
  cancelling: "Stopping",
  crashed: "Starting again",
  completed: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
};
export const STATES = Object.keys(WORDS);
export const ENDED = ["completed", "failed", "cancelled"];
/** States in which a job can be held, released, and moved to another queue. */
export const HOLDABLE = ["waiting", "scheduled", "blocked"];
export const RELEASABLE = ["held"];
export const MOVABLE = [...HOLDABLE, ...RELEASABLE];
export const QUEUES = ["high", "normal", "low"];
/** States whose times run. */
export const ACTIVE = STATES.filter((state) => !ENDED.includes(state) && state !== "scheduled");

/** The state of a job in words. */
export function stateWords(state) {
  return WORDS[state] ?? state;
}

/** Seconds, as short as one reads them: 0.8 s, 14 s, 3 min 20 s, 2 h 5 min, 3 d. */
export function duration(seconds, isOver = false) {
  if (isOver && seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d`;
}

/** Bytes: 512 B, 3.4 MB. */
export function bytes(number) {
  if (number < 1000) return `${number} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = number;
  let unit = -1;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** A whole number with separators. */
export function count(number) {
  return number.toLocaleString("en-US");
}

/** A number and what it counts: 1 job, 3 jobs. */
export function some(number, what) {
  return `${count(number)} ${what}${number === 1 ? "" : "s"}`;
}

/** How much smaller or larger a size has become: −60 %. */
export function change(before, after) {
  if (!before || after === null || after === undefined) return "";
  const share = Math.round((after / before - 1) * 100);
  return share > 0 ? `+${share} %` : `−${-share} %`;
}

/** A time: the hour where it is of today, else the date too. */
export function clock(time, seconds = false) {
  const at = new Date(time);
  const hours = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (seconds) hours.second = "2-digit";
  const isToday = at.toDateString() === new Date().toDateString();
  const day = isToday ? {} : { day: "numeric", month: "short" };
  if (at.getFullYear() !== new Date().getFullYear()) day.year = "numeric";
  return at.toLocaleString("en-GB", { ...day, ...hours });
}

/** The share of a job's work that is done, as a percentage. */
export function percent(fraction) {
  return `${Math.floor(fraction * 100)} %`;
}

/** A path as part of an address. */
export function encoded(path) {
  return path.split("/").map(encodeURIComponent).join("/");
}

/** What a payload names for the first folder of an uploaded file, or for a file in none. */
export function topOf({ source, path }) {
  return source.slice(0, source.length - path.length) + path.split("/")[0];
}
