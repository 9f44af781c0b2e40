// The view of the whole: queues, slots, hosts, and the throughput of the last hour.

import { get, pause } from "./api.js";
import { el, fill } from "./dom.js";
import { setTitle } from "./notice.js";
import { clock, count, some } from "./words.js";

const LOOK = 5000; // ms
const STEP = 5; // minutes

/** The view, which is read anew every few seconds while somebody sees it. */
export async function overviewView(view, signal) {
  setTitle("Overview");
  const pools = el("div", { class: "pools" });
  const hosts = el("div", {});
  const hour = el("div", {});
  fill(
    view,
    el("h1", {}, "Overview"),
    el("section", { "aria-label": "Queues" }, pools),
    el("section", { class: "panel", "aria-label": "Last hour" }, el("h2", {}, "The last hour"), hour),
    el("section", { class: "panel", "aria-label": "Hosts" }, el("h2", {}, "Hosts"), hosts),
  );
  show(await get("/overview"));
  again();

  async function again() {
    while (!signal.aborted) {
      await pause(LOOK);
      if (document.hidden || signal.aborted) continue;
      const found = await get("/overview").catch(() => null);
      if (found && !signal.aborted) show(found);
    }
  }

  function show(found) {
    fill(
      pools,
      found.pools.map(poolPart),
      found.pools.length === 0 && el("p", { class: "empty" }, "No worker is running."),
    );
    fill(hosts, hostsPart(found.hosts));
    fill(hour, hourPart(found));
  }
}

function poolPart(pool) {
  const running = Object.values(pool.queues).reduce((sum, queue) => sum + queue.running, 0);
  const slots = pool.slots ?? running;
  return el(
    "div",
    { class: "panel" },
    el(
      "div",
      { class: "row spread" },
      el("h2", {}, `Pool ${pool.pool}`),
      pool.paused
        ? el("span", { class: "badge failed" }, "Paused")
        : el("span", { class: "help" }, `${count(running)} of ${some(slots, "slot")} taken`),
    ),
    el("progress", { max: Math.max(1, slots), value: Math.min(running, slots), "aria-label": "Slots taken" }),
    el(
      "table",
      { class: "plain" },
      el(
        "thead",
        {},
        el("tr", {}, ["Queue", "Waiting", "Running", "Later", "Held"].map((name) => el("th", { scope: "col" }, name))),
      ),
      el(
        "tbody",
        {},
        Object.entries(pool.queues).map(([name, queue]) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, name),
            [queue.waiting, queue.running, queue.scheduled, queue.held].map((number) => el("td", {}, count(number))),
          ),
        ),
      ),
    ),
  );
}

function hostsPart(hosts) {
  if (!hosts.length) return el("p", { class: "help" }, "No host has reported.");
  return el(
    "ul",
    { class: "hosts" },
    hosts.map((host) =>
      el(
        "li",
        {},
        el(
          "div",
          { class: "row spread" },
          el("strong", {}, host.host),
          el("span", { class: "help" }, `pool ${host.pool} · ${some(host.running, "job")} running`),
          el("span", { class: `badge ${host.well ? "completed" : "failed"}` }, host.well ? "Well" : "Not well"),
        ),
        host.drained ? el("p", { class: "help" }, "Takes no new job: it is drained.") : [],
        host.findings.map((finding) => el("p", { class: "error" }, finding)),
      ),
    ),
  );
}

function hourPart({ completed, failed, at }) {
  const sum = completed.reduce((all, number) => all + number, 0);
  const most = Math.max(1, ...completed);
  const words = `${some(sum, "job")} done, ${count(failed)} failed`;
  const chart = el("div", { class: "chart", role: "img", "aria-label": `${words}, in steps of ${STEP} minutes` });
  completed.forEach((number, index) => {
    const begin = new Date(new Date(at) - (completed.length - index) * STEP * 60_000);
    const column = el("span", { title: `${clock(begin)}: ${some(number, "job")}` });
    column.style.setProperty("height", `${Math.max(number ? 4 : 1, (number / most) * 100)}%`);
    chart.append(column);
  });
  const from = new Date(new Date(at) - completed.length * STEP * 60_000);
  return [
    el("p", { class: "figure-line" }, words),
    chart,
    el("div", { class: "row spread help" }, el("span", {}, clock(from)), el("span", {}, clock(at))),
  ];
}
