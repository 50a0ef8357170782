// The household's page. Plain script, no library.
//
// What partners and devices wrote is untrusted: text reaches the page only through `textContent`
// (see `el` and `svg`), and no string is ever parsed as markup.

// Limits of what the page keeps and draws.
const MAX_ROWS = 7; // rows of one strip, until "show all"
const MAX_POINTS = 20000; // points of one lane
const MAX_DOTS = 80; // dots of one lane; more tellings than that are a line
const MAX_TRUTH = 500; // rows of truth and told
const MAX_QUESTIONS = 40; // rows of the stream
const MAX_WAITING = 500; // events held while paused
const MAX_TEXT = 160; // characters of a name or value; longer ones are cut
const OVERVIEW_EVERY = 4000; // milliseconds
const DAY_EVERY = 5000;
const STREAM_EVERY = 1000;
const ANNOUNCE_EVERY = 20000;
const RETRY_AFTER = 4000;
const REDRAW_MS = 520; // how long the curtain takes

const $ = (id) => document.getElementById(id);
const HOUR = 3600000;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const narrow = matchMedia("(max-width: 700px)");

const state = {
  overview: null,
  link: null, // id of the chosen link
  days: new Map(), // link id -> day
  cursor: null, // the time read off; null: now
  showAll: false,
  clock: { at: 0, since: 0, speed: 1 },
  zone: "UTC",
  paused: false,
  waiting: [],
  missed: 0,
  counts: { answered: 0, refused: 0, error: 0 },
  leaves: 0,
};

// ---- Small helpers

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const el = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
const svg = (tag, properties, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);

/** Puts children into a node, unless they are there already: a selection or focus stays. */
function put(node, ...children) {
  const next = node.cloneNode(false);
  next.append(...children.filter((child) => child !== null));
  if (!node.isEqualNode(next)) node.replaceChildren(...next.childNodes);
}

const cut = (value) => {
  const text = String(value ?? "");
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
};
const list = (value) => (Array.isArray(value) ? value : []);
const words = (value) => cut(value).replaceAll("_", " ");
const whole = new Intl.NumberFormat("en");
const number = (value) => whole.format(Number(value) || 0);
const plural = (n, one, many) => `${number(n)} ${Number(n) === 1 ? one : many}`;
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

function bytes(value) {
  const units = ["bytes", "kB", "MB", "GB"];
  let size = Number(value) || 0;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${tenth.format(size)} ${units[unit]}`;
}

function format(options) {
  const make = (zone) => new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone });
  const cache = new Map();
  return (time) => {
    if (!Number.isFinite(time) || Math.abs(time) > 8.64e15) return "";
    if (!cache.has(state.zone)) {
      try {
        cache.set(state.zone, make(state.zone));
      } catch {
        cache.set(state.zone, make("UTC"));
      }
    }
    return cache.get(state.zone).format(time);
  };
}
const clockTime = format({ hour: "2-digit", minute: "2-digit" });
const clockSeconds = format({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const longDate = format({ weekday: "long", day: "numeric", month: "long" });
const shortDate = format({ day: "numeric", month: "short" });
const now = () => state.clock.at + (performance.now() - state.clock.since) * state.clock.speed;
const when = (time) =>
  shortDate(time) === shortDate(now()) ? clockTime(time) : `${shortDate(time)} ${clockTime(time)}`;

const PARTNERS = { alexa: "Alexa", google: "Google" };
const partnerName = (partner) => PARTNERS[partner] ?? cut(partner);

function value(lane, raw) {
  if (raw === null || raw === undefined) return "unknown";
  if (typeof raw === "number") return `${tenth.format(raw)}${lane.unit ? ` ${cut(lane.unit)}` : ""}`;
  if (typeof raw === "boolean") return raw ? "yes" : "no";
  return words(raw);
}

// ---- Links

const links = () => list(state.overview?.links);
const chosen = () => links().find((link) => link.id === state.link) ?? null;
const RANK = ["commands-only", "glance", "routines", "convenience", "everything"];
const rank = (link) => {
  const at = RANK.indexOf(link.profile);
  return at < 0 ? RANK.length : at;
};

/** What a link is called: its profile's name, with more only where that is not enough. */
function linkName(link) {
  const name = cut(link.profile_name || link.profile);
  const same = links().filter((other) => other.profile === link.profile);
  if (same.length < 2) return name;
  const partners = new Set(same.map((other) => other.partner));
  const which = partners.size === same.length ? partnerName(link.partner) : cut(link.id);
  return `${name} (${which})`;
}

function choose(id, animate) {
  const before = state.link;
  state.link = id;
  const link = chosen();
  if (link && links().filter((other) => other.profile === link.profile).length === 1) {
    history.replaceState(null, "", `#${encodeURIComponent(link.profile)}`);
  }
  renderChoice();
  renderDay(animate && before !== id);
  fetchDay(id);
}

/** The notches, once for the curtain and once beside each part that depends on them. */
function renderNotches() {
  const key = JSON.stringify(links().map((link) => [link.id, linkName(link)]));
  const slots = [$("notches"), ...document.querySelectorAll(".notch-slot")];
  slots.forEach((slot, nth) => {
    if (slot.dataset.key !== key) {
      slot.dataset.key = key;
      const thumb = el("div", { class: "thumb" });
      const choices = links().map((link) => {
        const input = el("input", { type: "radio", name: `notch-${nth}`, value: link.id });
        input.addEventListener("change", () => choose(link.id, true));
        return el("label", {}, input, el("span", { text: linkName(link) }), el("small"));
      });
      const group = el("fieldset", { class: links().length > 4 ? "notches many" : "notches" });
      group.append(el("legend", { class: "sr", text: "What the partner may know: which link to show" }), thumb, ...choices);
      slot.replaceChildren(group);
      slot.hidden = links().length < 1;
    }
    const at = links().findIndex((link) => link.id === state.link);
    slot.querySelectorAll("label").forEach((label, index) => {
      const link = links()[index];
      label.querySelector("input").checked = index === at;
      label.querySelector("small").textContent = plural(link.facts, "fact", "facts");
    });
    const thumb = slot.querySelector(".thumb");
    if (thumb) {
      thumb.hidden = at < 0;
      thumb.style.width = `calc((100% - 6px) / ${links().length})`;
      thumb.style.transform = `translateX(${at * 100}%)`;
    }
  });
}

/** Everything that depends on which link is chosen, but the strips. */
function renderChoice() {
  renderNotches();
  const link = chosen();
  if (!link) return;
  const partner = partnerName(link.partner);
  $("told-title").textContent = `As ${partner} saw it`;
  $("told-note").textContent = `under ${linkName(link)}`;
  const strong = (text) => el("strong", { text });
  put($("got"),
    `${partner} asked `, strong(plural(link.asked, "time", "times")),
    ", and was told ", strong(plural(link.facts, "fact", "facts")),
    ` in ${plural(link.messages, "message", "messages")}. `,
    Number(link.withheld) > 0 ? `${plural(link.withheld, "value was", "values were")} withheld.` : "Nothing was withheld.",
    el("small", { text: `${bytes(link.bytes)} sent; ${plural(link.errors, "error", "errors")}. A fact is one value of one property at one time.` }),
  );
  const lost = list(link.costs).filter((cost) => cost.lost);
  const kept = list(link.costs).filter((cost) => !cost.lost);
  const line = (cost) =>
    el("li", { class: cost.lost ? "lost" : "kept" },
      el("b", { text: cost.lost ? "lost" : "kept" }),
      el("span", { text: cut(cost.what) }, el("small", { text: cut(cost.why) })));
  put($("costs"),
    el("h2", { class: "small", text: `What ${linkName(link)} costs` },
      el("span", { text: `${lost.length} lost, ${kept.length} kept` })),
    ...(link.notice ? [el("p", { class: "lost", text: cut(link.notice) })] : []),
    el("ul", {}, ...lost.map(line), ...kept.map(line)));
  renderDemands();
  renderTruth();
  $("only-label").textContent = `${linkName(link)} only`;
}

// ---- The day

const QUIET = new Set(["off", "closed", "locked", "clear", "none", "false", "no", "idle", "unoccupied", "not_detected", "absent", "away", "0", ""]);
const ACTIVE = new Set(["on", "open", "opening", "unlocked", "motion", "detected", "occupied", "true", "yes", "heating", "cooling", "heat", "cool", "present", "home", "jammed", "1"]);

function tone(raw) {
  const text = String(raw).toLowerCase();
  if (QUIET.has(text)) return "off";
  return ACTIVE.has(text) ? "on" : "other";
}

const isAim = (lane) => /set_?point/.test(String(lane.property));

/** Lanes as rows: a set point shares the row of the temperature it aims at. */
function rowsOf(day) {
  const rows = [];
  const small = narrow.matches;
  const aims = list(day.lanes).filter((lane) => lane.type === "number" && isAim(lane));
  const placed = new Set();
  for (const lane of list(day.lanes)) {
    if (placed.has(lane)) continue;
    const series = [lane];
    if (lane.type === "number" && !isAim(lane) && /temperature/.test(String(lane.property))) {
      for (const aim of aims) {
        if (aim.device === lane.device && aim.unit === lane.unit && !placed.has(aim)) {
          series.push(aim);
          placed.add(aim);
        }
      }
      // A set point that came first keeps no row of its own.
      for (const aim of series.slice(1)) {
        const own = rows.findIndex((row) => row.series[0] === aim);
        if (own >= 0) rows.splice(own, 1);
      }
    }
    placed.add(lane);
    const tall = /temperature/.test(String(lane.property));
    const height = lane.type !== "number" ? (small ? 19 : 23) : tall ? (small ? 70 : 78) : small ? 34 : 42;
    rows.push({ type: lane.type, series, height });
  }
  return rows;
}

function domain(row) {
  let low = Infinity;
  let high = -Infinity;
  for (const lane of row.series) {
    for (const points of [lane.lived, lane.told]) {
      for (const point of list(points)) {
        if (typeof point[1] !== "number") continue;
        low = Math.min(low, point[1]);
        high = Math.max(high, point[1]);
      }
    }
  }
  if (low > high) return [0, 1];
  const pad = Math.max((high - low) * 0.08, 0.5);
  return [low - pad, high + pad];
}

/** One to three round numbers inside the domain. */
function ticks([low, high], room) {
  for (const step of [0.5, 1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1000, 5000]) {
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high && found.length < 9; at += step) found.push(at);
    if (found.length <= Math.max(1, Math.floor(room / 17.5))) return found;
  }
  return [];
}

/** Segments [from, to, value] of a step function, up to `end`. */
function segments(points, from, end) {
  const out = [];
  const kept = list(points).slice(-MAX_POINTS);
  for (let index = 0; index < kept.length; index += 1) {
    const start = Math.max(kept[index][0], from);
    const stop = Math.min(kept[index + 1]?.[0] ?? end, end);
    if (stop <= start) continue;
    const last = out[out.length - 1];
    if (last && last[2] === kept[index][1] && last[1] >= start) last[1] = stop;
    else out.push([start, stop, kept[index][1]]);
  }
  return out;
}

function valueAt(points, time) {
  const kept = list(points);
  let low = 0;
  let high = kept.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (kept[middle][0] <= time) low = middle + 1;
    else high = middle;
  }
  return low > 0 ? kept[low - 1] : null;
}

const AXIS = 17; // height of the hours under a strip

/** Draws one side of the day ("lived" or "told") as a group. */
function drawSide(day, rows, side, width) {
  const end = Math.min(day.now, day.to);
  const left = 24;
  const right = width - 6;
  const x = (time) => left + ((time - day.from) / (day.to - day.from)) * (right - left);
  const total = rows.reduce((sum, row) => sum + row.height, 0);
  const group = svg("g", {}, svg("rect", { class: "bg", x: 0, y: 0, width, height: total + AXIS }));
  const room = (right - left) / ((day.to - day.from) / HOUR); // pixels of an hour
  const every = room < 16 ? 6 : room < 30 ? 3 : 2;
  for (let time = day.from; time <= day.to; time += HOUR) {
    if (Number(clockTime(time).slice(0, 2)) % every !== 0) continue;
    const at = Math.round(x(time));
    group.append(svg("line", { class: "gridline", x1: at, x2: at, y1: 0, y2: total }));
    const anchor = at - left < 6 ? "start" : right - at < 14 ? "end" : "middle";
    group.append(svg("text", { x: at, y: total + 13, "text-anchor": anchor, text: clockTime(time) }));
  }
  const veil = (from, to, top, height) => {
    const box = { x: x(from), y: top + 2, width: Math.max(0, x(to) - x(from)), height: Math.max(0, height - 4) };
    group.append(svg("rect", { class: "veil-bg", ...box }), svg("rect", { fill: `url(#veil-${side})`, ...box }));
    return box.width;
  };
  let top = 0;
  for (const row of rows) {
    const heard = row.series.map((lane) => list(lane[side]).filter((point) => point[0] <= end));
    // The first series is what the row is about; a set point beside it may be told alone.
    const first = heard[0][0]?.[0] ?? Infinity;
    const empty = heard.every((points) => points.length === 0);
    const nothing = side === "told" ? "nothing was told" : "no reading";
    if (top > 0) group.append(svg("line", { class: "rowline", x1: left, x2: right, y1: top, y2: top }));
    // The curtain: what was not told is covered, not blank.
    if (side === "told" || first === Infinity) {
      const covered = veil(day.from, Math.min(first, end), top, row.height);
      if (first === Infinity && covered > 110) {
        const text = empty ? nothing : `${cut(row.series[0].label)}: ${nothing}`;
        group.append(svg("text", { class: "nothing", x: x((day.from + end) / 2), y: top + row.height - (empty ? row.height / 2 - 4 : 11), "text-anchor": "middle", text }));
      }
    }
    if (row.type === "number") {
      const range = domain(row);
      const y = (raw) => top + row.height - 5 - ((raw - range[0]) / (range[1] - range[0])) * (row.height - 10);
      for (const tick of ticks(range, row.height)) {
        const at = Math.round(y(tick));
        if (empty) break;
        group.append(svg("line", { class: "gridline", x1: first === Infinity ? x(end) : Math.max(left, side === "told" ? x(first) : left), x2: right, y1: at, y2: at }));
        group.append(svg("text", { x: left - 4, y: at + 4, "text-anchor": "end", text: tenth.format(tick) }));
      }
      row.series.forEach((lane, nth) => {
        const parts = segments(heard[nth].filter((point) => typeof point[1] === "number"), day.from, end);
        let path = "";
        let reached = null;
        for (const [from, to, raw] of parts) {
          path += `${reached === from ? "L" : "M"}${x(from).toFixed(1)} ${y(raw).toFixed(1)}H${x(to).toFixed(1)}`;
          reached = to;
        }
        if (path) group.append(svg("path", { class: isAim(lane) ? "line aim" : "line", d: path }));
        if (side === "told" && heard[nth].length <= MAX_DOTS) {
          for (const point of heard[nth]) {
            if (typeof point[1] === "number" && point[0] >= day.from) {
              group.append(svg("circle", { class: "dot", cx: x(point[0]).toFixed(1), cy: y(point[1]).toFixed(1), r: isAim(lane) ? 2 : 2.4 }));
            }
          }
        }
      });
    } else {
      const tall = Math.min(13, row.height - 6);
      for (const [from, to, raw] of segments(heard[0], day.from, end)) {
        const kind = raw === null ? "off" : tone(raw);
        const height = kind === "off" ? 2 : tall;
        const box = { x: x(from).toFixed(1), y: (top + (row.height - height) / 2).toFixed(1), width: Math.max(kind === "off" ? 0.5 : 2, x(to) - x(from)).toFixed(1), height };
        group.append(svg("rect", { class: kind, rx: kind === "off" ? 0 : 1.5, ...box },
          svg("title", { text: `${cut(row.series[0].label)}: ${value(row.series[0], raw)}, ${clockTime(from)} to ${clockTime(to)}` })));
      }
    }
    top += row.height;
  }
  if (day.now < day.to) {
    group.append(svg("line", { class: "now", x1: x(end), x2: x(end), y1: 0, y2: total }));
  }
  return { group, x, total, left, right };
}

/** A sentence for those who can't see the strip. */
function describe(day, rows, side) {
  const end = Math.min(day.now, day.to);
  const parts = rows.flatMap((row) => row.series.map((lane) => {
    const points = list(lane[side]).filter((point) => point[0] <= end);
    const name = cut(lane.label);
    if (points.length === 0) return `${name}: ${side === "told" ? "nothing was told" : "no reading"}`;
    const numbers = points.map((point) => point[1]).filter((raw) => typeof raw === "number");
    if (numbers.length > 0) {
      const low = numbers.reduce((a, b) => Math.min(a, b));
      const high = numbers.reduce((a, b) => Math.max(a, b));
      return `${name}: ${value(lane, low)} to ${value(lane, high)}, ${plural(points.length, "value", "values")}`;
    }
    return `${name}: ${plural(points.length, "state", "states")}, last ${value(lane, points[points.length - 1][1])}`;
  }));
  return `${side === "told" ? "As told" : "As lived"}. ${parts.join(". ")}.`;
}

const drawn = { lived: null, told: null };
// The curtain's drawing that is under way (its number), and whether newer data waits for its end.
let curtain = 0;
let drawing = false;
let again = false;

function renderDay(animate = false) {
  if (drawing && !animate) {
    again = true;
    return;
  }
  const day = state.days.get(state.link);
  const empty = emptyReason(day);
  $("stage").hidden = Boolean(empty);
  $("empty").hidden = !empty;
  if (empty) {
    put($("empty"), ...empty);
    return;
  }
  if (!day) return;
  $("day-date").textContent = longDate(day.now);
  let rows = rowsOf(day);
  const hidden = state.showAll ? 0 : Math.max(0, rows.length - MAX_ROWS);
  rows = hidden ? rows.slice(0, MAX_ROWS) : rows;
  for (const side of ["lived", "told"]) renderStrip(day, rows, side, hidden, side === "told" && animate);
  const scrub = $("scrub");
  scrub.max = Math.round((day.to - day.from) / 60000);
  renderCursor();
}

function renderStrip(day, rows, side, hidden, animate) {
  const plot = $(side);
  let part = drawn[side];
  const key = JSON.stringify([rows.map((row) => [row.height, row.series.map((lane) => [lane.device, lane.label])]), hidden]);
  if (!part || part.key !== key) {
    plot.style.gridTemplateRows = `${rows.map((row) => `${row.height}px`).join(" ")} ${AXIS}px`;
    const names = [];
    const values = [];
    rows.forEach((row, nth) => {
      const name = el("span", { class: "name", title: `${cut(row.series[0].label)}, ${cut(row.series[0].device)}`, text: cut(row.series[0].label) });
      for (const lane of row.series.slice(1)) name.append(el("small", {}, el("span", { class: "key" }), cut(lane.label).toLowerCase()));
      const shown = el("span", { class: "value" });
      name.style.gridRow = shown.style.gridRow = String(nth + 1);
      names.push(name);
      values.push(shown);
    });
    const canvas = el("div", { class: "canvas" });
    canvas.style.gridRow = `1 / span ${rows.length + 1}`;
    plot.replaceChildren(...names, canvas, ...values);
    plot.parentElement.querySelector(".more")?.remove();
    // Both strips show the same rows: one button, under the second.
    if (hidden && side === "told") {
      const more = el("button", { type: "button", class: "more", text: `Show ${hidden} more` });
      more.addEventListener("click", () => {
        state.showAll = true;
        renderDay();
      });
      plot.after(more);
    }
    part = drawn[side] = { key, canvas, values };
    canvas.addEventListener("pointermove", (event) => pointTo(event, side));
    canvas.addEventListener("pointerdown", (event) => pointTo(event, side));
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") setCursor(null);
    });
  }
  const width = Math.floor(part.canvas.clientWidth);
  if (width < 80) return;
  const old = part.svg;
  const side_ = drawSide(day, rows, side, width);
  const height = side_.total + AXIS;
  const cursor = svg("line", { class: "cursor", y1: 0, y2: side_.total, visibility: "hidden" });
  const pattern = svg("pattern", { id: `veil-${side}`, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("line", { class: "veil-line", x1: 0, x2: 0, y1: 0, y2: 6 }));
  const image = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": describe(day, rows, side) },
    svg("defs", {}, pattern));
  const before = animate && !still.matches && old && part.width === width ? part.group : null;
  if (side === "told") {
    curtain += 1;
    drawing = Boolean(before);
  }
  if (before) {
    const clip = svg("rect", { x: 0, y: 0, width: 0, height });
    const edge = svg("line", { class: "edge", y1: 0, y2: side_.total });
    image.querySelector("defs").append(svg("clipPath", { id: "drawn" }, clip));
    side_.group.setAttribute("clip-path", "url(#drawn)");
    image.append(before, side_.group, edge, cursor);
    drawCurtain(clip, edge, side_, before, width, curtain);
  } else {
    image.append(side_.group, cursor);
  }
  part.canvas.replaceChildren(image);
  Object.assign(part, { svg: image, group: side_.group, x: side_.x, left: side_.left, right: side_.right, cursor, rows, day, width });
}

/** Lets the curtain's edge pass over the strip: behind it is the new drawing. */
function drawCurtain(clip, edge, side, before, width, run) {
  let start = null;
  const finish = () => {
    side.group.removeAttribute("clip-path");
    before.remove();
    edge.remove();
    if (run !== curtain) return;
    drawing = false;
    if (again) {
      again = false;
      renderDay();
    }
  };
  const step = (time) => {
    start ??= time;
    const part = Math.min(1, (time - start) / REDRAW_MS);
    const eased = part < 0.5 ? 2 * part * part : 1 - (2 - 2 * part) ** 2 / 2;
    const at = side.left + eased * (width - side.left);
    clip.setAttribute("width", at);
    edge.setAttribute("x1", at);
    edge.setAttribute("x2", at);
    if (part >= 1 || run !== curtain) finish();
    else requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function pointTo(event, side) {
  const part = drawn[side];
  if (!part?.day) return;
  const box = part.canvas.getBoundingClientRect();
  const share = (event.clientX - box.left - part.left) / (part.right - part.left);
  const time = part.day.from + share * (part.day.to - part.day.from);
  setCursor(Math.max(part.day.from, time));
}

function setCursor(time) {
  const day = state.days.get(state.link);
  state.cursor = time === null || !day || time >= Math.min(day.now, day.to) ? null : time;
  renderCursor();
}

/** The hairline and the values at that time, in both strips. */
function renderCursor() {
  const day = state.days.get(state.link);
  if (!day) return;
  const end = Math.min(day.now, day.to);
  const time = state.cursor ?? end;
  const live = state.cursor === null;
  $("stage").classList.toggle("scrubbing", !live);
  const scrub = $("scrub");
  scrub.value = Math.round((time - day.from) / 60000);
  scrub.setAttribute("aria-valuetext", live ? `now, ${clockTime(time)}` : clockTime(time));
  $("scrub-now").hidden = live;
  for (const side of ["lived", "told"]) {
    const part = drawn[side];
    if (!part?.rows) continue;
    $(side).parentElement.querySelector(".at").textContent = clockTime(time);
    part.cursor.setAttribute("visibility", live ? "hidden" : "visible");
    part.cursor.setAttribute("x1", part.x(time));
    part.cursor.setAttribute("x2", part.x(time));
    part.rows.forEach((row, nth) => {
      const found = row.series.map((lane) => valueAt(lane[side], time));
      const cell = part.values[nth];
      const none = side === "told" ? "not told" : "unknown";
      const show = (index) => (found[index] ? value(row.series[index], found[index][1]) : none);
      const parts = [document.createTextNode(show(0))];
      for (let index = 1; index < row.series.length; index += 1) {
        parts.push(el("small", { text: found[index] ? `set ${show(index)}` : "" }));
      }
      cell.replaceChildren(...parts);
      cell.classList.toggle("none", !found[0]);
      const told = side === "told" && found[0]?.length > 2 ? found[0] : null;
      cell.title = told ? `told at ${when(told[0])}, as of ${when(told[2])}` : "";
    });
  }
}

/** Why there is nothing to draw yet, and what to do next; `null` when there is. */
function emptyReason(day) {
  if (!state.overview) return null;
  if (links().length === 0) {
    return [
      el("h3", { text: "Nobody outside can ask anything yet" }),
      el("p", { text: "No link to a partner exists, so nothing leaves this home. To let Alexa in, choose what it may know (commands-only, glance or everything) and print the token for its skill:" }),
      el("pre", {}, el("code", { text: "vestibule link alexa --profile glance --print-token" })),
      el("p", { class: "quiet", text: "From then on, this page shows the day as lived, beside the day as Alexa saw it. The profile can be changed at any time." }),
    ];
  }
  if (day && list(day.lanes).length === 0) {
    return [
      el("h3", { text: "No device has reported yet" }),
      el("p", { text: "The day is drawn from what devices report over MQTT. Devices that use Home Assistant's discovery appear by themselves; this lists what was found, and what was dropped and why:" }),
      el("pre", {}, el("code", { text: "vestibule devices" })),
    ];
  }
  return null;
}

// ---- Three demands

function renderDemands() {
  const demands = list(state.overview?.demands);
  const link = chosen();
  $("demands").hidden = demands.length === 0 || !link;
  if ($("demands").hidden) return;
  const COUNT = ["No", "One", "Two", "Three", "Four", "Five"];
  $("demands-title").textContent = `${COUNT[demands.length] ?? demands.length} ${demands.length === 1 ? "demand" : "demands"}`;
  const chips = (items, kind) =>
    items.length === 0
      ? el("dd", { class: "quiet", text: "nothing" })
      : el("dd", {}, el("ul", { class: "chips" }, ...items.map((item) => el("li", { class: `chip ${kind}`, text: words(item) }))));
  put($("demand-cards"), ...demands.map((demand) => {
    const part = demand.per_link?.[link.id] ?? {};
    const given = list(part.given);
    const refused = list(part.refused);
    const [verdict, kind] = given.length === 0 && refused.length === 0 ? ["Not asked yet", ""]
      : given.length === 0 ? ["Refused", "refused"]
      : refused.length === 0 ? ["Given", "given"] : ["In part", "part"];
    return el("article", { class: "card" },
      el("header", {}, el("h3", { text: cut(demand.title) }), el("span", { class: `verdict ${kind}`, text: verdict })),
      el("dl", {},
        el("dt", { text: "Asked" }), el("dd", {}, el("b", { text: plural(demand.count, "time", "times") }), el("br"), String(demand.asked ?? "").slice(0, 1000)),
        el("dt", { text: "Given" }), chips(given, "given"),
        el("dt", { text: "Refused" }), chips(refused, "refused"),
        el("dt", { text: "Why" }), el("dd", { text: list(part.why).map(words).join("; ") || "–" })));
  }));
}

// ---- Truth and told

function renderTruth() {
  const all = list(state.overview?.truth);
  const truth = all.slice(0, MAX_TRUTH);
  $("truth").hidden = truth.length === 0;
  const columns = (link) => `${link.id === state.link ? "chosen" : "other-link"}`;
  const head = el("tr", {}, el("th", { scope: "col", class: "device", text: "Device" }), el("th", { scope: "col", text: "Property" }),
    el("th", { scope: "col", class: "truth-col", text: "In the home" }),
    ...links().map((link) => el("th", { scope: "col", class: columns(link), text: linkName(link) })));
  const body = truth.map((row, nth) => {
    const name = cut(row.device_name || row.device);
    const starts = row.device !== truth[nth - 1]?.device;
    let rows = 1;
    while (starts && truth[nth + rows]?.device === row.device) rows += 1;
    return el("tr", { class: starts ? "starts" : null },
      starts ? el("td", { class: "device", rowspan: rows, text: name }) : null,
      el("th", { scope: "row", title: cut(row.property), text: cut(row.label || row.property) },
        el("small", { class: "kind", text: words(row.kind) }), el("small", { class: "of", text: name })),
      el("td", { class: "value", text: words(row.value) }, el("small", { text: when(row.time) })),
      ...links().map((link) => {
        const told = row.told?.[link.id];
        return told
          ? el("td", { class: `heard ${columns(link)}`, text: words(told.value) }, el("small", { text: when(told.time) }))
          : el("td", { class: `not-told ${columns(link)}`, text: "not told" });
      }));
  });
  $("truth-more").hidden = all.length <= MAX_TRUTH;
  $("truth-more").textContent = `${number(all.length - MAX_TRUTH)} more are not shown here: see vestibule devices.`;
  put($("truth-table"), el("thead", {}, head), el("tbody", {}, ...body));
}

// ---- Questions, live

const shown = []; // newest first: { key, count, time, link, node, countNode, timeNode }

function question(event) {
  const link = links().find((known) => known.id === event.link);
  const outcome = ["answered", "refused", "error"].includes(event.outcome) ? event.outcome : "error";
  const given = list(event.given).map(words);
  const refused = list(event.refused).map(words);
  const why = event.why ? words(event.why) : "";
  const key = JSON.stringify([event.link, event.message, event.endpoint, outcome, given, refused, why]);
  const count = Math.max(1, Number(event.count) || 1);
  state.counts[outcome] += count;
  const known = shown.find((row) => row.key === key);
  if (known) {
    known.count += count;
    known.time = event.time;
    known.changed = true;
    return;
  }
  const timeNode = el("time", { text: clockSeconds(event.time) });
  const countNode = el("span", { class: "count", text: `×${number(count)}` });
  const held = refused.length > 0 ? `withheld: ${refused.join(", ")}${why ? ` (${why})` : ""}` : why;
  const name = link ? linkName(link) : partnerName(event.partner);
  const short = cut(event.message).split(".").pop();
  const node = el("li", {}, timeNode,
    el("span", { class: "link", text: name }),
    el("span", { class: "what", title: cut(event.message), text: short }, event.endpoint ? el("small", { text: cut(event.endpoint) }) : null),
    el("span", { class: `outcome ${outcome}`, text: outcome }),
    countNode,
    el("span", { class: "detail" }, el("span", { class: "link-inline", text: name }),
      given.length > 0 ? el("span", { class: "gave", text: `given: ${cut(given.join(", "))}` }) : null,
      held ? el("span", { class: "held", text: cut(held) }) : null));
  shown.unshift({ key, count, time: event.time, link: event.link, node, countNode, timeNode });
  shown.length = Math.min(shown.length, MAX_QUESTIONS);
}

function renderStream() {
  const only = $("only").checked;
  for (const row of shown) {
    if (row.changed) {
      row.countNode.textContent = `×${number(row.count)}`;
      row.timeNode.textContent = clockSeconds(row.time);
      row.changed = false;
    }
    row.node.hidden = only && row.link !== state.link;
  }
  const nodes = shown.map((row) => row.node);
  const box = $("stream");
  if (nodes.length !== box.children.length || nodes[0] !== box.firstChild) box.replaceChildren(...nodes);
  $("stream-empty").hidden = shown.length > 0;
}

function flush() {
  if (state.paused) {
    $("pause").textContent = `Go on (${number(state.waiting.length)} waiting)`;
    return;
  }
  for (const event of state.waiting.splice(0)) question(event);
  renderStream();
  $("questions-note").textContent = state.missed > 0
    ? `A repeated question is counted in its row. ${plural(state.missed, "event was", "events were")} skipped, as this page was too slow or paused.`
    : "A repeated question is counted in its row.";
}

function announce() {
  const { answered, refused, error } = state.counts;
  if (answered + refused + error > 0 && !state.paused) {
    $("announce").textContent = `Since this page was opened: ${number(answered)} answered, ${number(refused)} refused, ${plural(error, "error", "errors")}.`;
  }
}

// ---- Thermostats

const cards = new Map(); // thermostat's name -> its card

function renderThermostats() {
  const all = list(state.overview?.thermostats);
  $("thermostats").hidden = all.length === 0;
  const names = all.map((one) => String(one.name));
  if (names.length !== cards.size || names.some((name) => !cards.has(name))) {
    cards.clear();
    for (const name of names) cards.set(name, thermostatCard(name));
    $("thermostat-list").replaceChildren(...[...cards.values()].map((card) => card.node));
  }
  for (const one of all) cards.get(String(one.name)).show(one);
}

/** A thermostat: what it does, and a form that orders it. What is typed stays while the rest changes. */
function thermostatCard(name) {
  const meta = el("div", { class: "meta" });
  const what = el("div", {});
  const field = (label, input) => el("label", {}, el("span", { text: label }), input);
  const temperature = el("input", { size: 6, autocomplete: "off", placeholder: "21 or 70F" });
  const choice = (...options) => el("select", {}, ...options.map(([value, text]) => el("option", { value, text })));
  const until = choice(["next", "until the program changes"], ["2", "for 2 hours"], ["", "until resumed"]);
  const mode = choice(["", "as it is"], ["off", "off"], ["heat", "heat"], ["cool", "cool"], ["auto", "auto"]);
  const member = el("input", { size: 10, autocomplete: "username" });
  const password = el("input", { size: 10, type: "password", autocomplete: "current-password" });
  const told = el("p", { class: "quiet", role: "status" });
  const send = async (order, done) => {
    told.textContent = "Sent.";
    try {
      const login = btoa(String.fromCharCode(...new TextEncoder().encode(`${member.value.trim()}:${password.value}`)));
      const answer = await fetch(`/api/thermostats/${encodeURIComponent(name)}`, {
        method: "POST",
        // The browser's own question for a password would come on top of this one.
        credentials: "omit",
        headers: { "content-type": "application/json", authorization: `Basic ${login}` },
        body: JSON.stringify(order),
      });
      const said = await answer.json();
      told.textContent = answer.ok ? done : cut(said.error);
      if (answer.ok) fetchOverview();
    } catch {
      told.textContent = "The hub did not answer.";
    }
  };
  const hold = el("button", { type: "submit", text: "Hold" });
  const resume = el("button", { type: "button", text: "Resume the program" });
  const form = el("form", { class: "order" },
    field("Hold", temperature), field("How long", until), hold, resume,
    field("Mode", mode), field("Member", member), field("Password", password), told);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const how = until.value === "2" ? { hours: 2 } : until.value ? { until: until.value } : {};
    if (temperature.value.trim()) send({ hold: { to: { temperature: temperature.value.trim() }, ...how } }, "Held.");
    else told.textContent = "Say which temperature.";
  });
  resume.addEventListener("click", () => send({ resume: { all: true } }, "The program goes on."));
  mode.addEventListener("change", () => mode.value && send({ set: { mode: mode.value } }, "Set."));
  const show = (one) => {
    const degrees = (value) => `${value} ${one.unit === "fahrenheit" ? "°F" : "°C"}`;
    const points = [["heat", one.heat_set_point], ["cool", one.cool_set_point]];
    const wanted = points.filter(([way, value]) => typeof value === "number" && (one.mode === way || one.mode === "auto"));
    put(meta,
      el("b", { text: cut(one.name) }),
      typeof one.temperature === "number" ? el("span", { text: degrees(one.temperature) }) : null,
      el("span", { text: [one.mode, ...wanted.map(([, value]) => degrees(value))].map(cut).join(" · ") }));
    put(what,
      el("p", { text: String(one.why ?? "It has not decided anything yet.").slice(0, 2000) }),
      ...list(one.alerts).map((alert) => el("p", { class: "threat", text: String(alert).slice(0, 2000) })));
  };
  return { node: el("li", {}, meta, el("div", {}, what, form)), show };
}

// ---- Docket and record

function renderDocket() {
  const docket = list(state.overview?.docket);
  $("docket-empty").hidden = docket.length > 0;
  const key = JSON.stringify([docket, state.zone]);
  if ($("docket-list").dataset.key === key) return;
  $("docket-list").dataset.key = key;
  // What one partner kept asking for is one entry, the most wanted first.
  const partners = [...new Set(docket.filter((entry) => entry.observed).map((entry) => entry.partner))];
  const observed = partners.map((partner) => {
    const entries = docket.filter((entry) => entry.observed && entry.partner === partner).sort((a, b) => b.count - a.count);
    const last = Math.max(...entries.map((entry) => Number(entry.time) || 0));
    return el("li", {},
      el("div", { class: "meta" }, el("b", { text: `Observed, ${partnerName(partner)}` }), el("span", { text: `until ${when(last)}` })),
      el("div", {}, el("p", { text: "Asked, although it is refused:" }),
        el("ul", { class: "chips" }, ...entries.map((entry) =>
          el("li", { class: "chip refused", title: cut(entry.text), text: `${words(entry.what)} ×${number(entry.count)}` })))));
  });
  $("docket-list").replaceChildren(...docket.filter((entry) => !entry.observed).map((entry) =>
    el("li", {},
      el("div", { class: "meta" },
        el("b", { text: `In writing, ${partnerName(entry.partner)}` }),
        el("span", { text: `${when(entry.time)} · leaf ${number(entry.index)}` }),
        entry.deadline ? el("span", { text: `deadline ${typeof entry.deadline === "number" ? when(entry.deadline) : cut(entry.deadline)}` }) : null),
      el("div", {},
        el("p", { class: "text", text: String(entry.text ?? "").slice(0, 20000) }),
        entry.threat ? el("p", { class: "threat" }, el("b", { text: "What follows, it says: " }), String(entry.threat).slice(0, 2000)) : null))), ...observed);
}

/** What members are told, and what waits for owners. */
function renderSay() {
  const notices = list(state.overview?.notices);
  const waiting = list(state.overview?.waiting);
  $("say").hidden = notices.length + waiting.length === 0;
  const key = JSON.stringify([notices, waiting]);
  if ($("say-list").dataset.key === key) return;
  $("say-list").dataset.key = key;
  const lines = (all) => el("ul", {}, ...all.map((text) => el("li", { text: cut(text) })));
  const until = [...new Set(waiting.map((entry) => entry.until))];
  $("say-list").replaceChildren(...until.map((time) => {
    const all = waiting.filter((entry) => entry.until === time);
    const missing = [...new Set(all.flatMap((entry) => list(entry.missing)))];
    return el("li", {},
      el("div", { class: "meta" }, el("b", { text: "Waits" }), el("span", { text: `until ${when(Date.parse(time))}` })),
      el("div", {}, el("p", { text: `Takes force then, or when ${missing.map(cut).join(" and ")} confirms:` }),
        lines(all.map((entry) => `${entry.id}: ${partnerName(entry.partner)} ${entry.words}`))));
  }), ...notices.map((notice) =>
    el("li", {},
      el("div", { class: "meta" }, el("b", { text: `By ${cut(notice.by)}` }), el("span", { text: when(Date.parse(notice.time)) }),
        el("span", { text: `not seen by ${list(notice.unseen_by).map(cut).join(", ")}` })),
      el("div", {}, el("p", { text: cut(notice.text) }),
        lines(list(notice.lines).concat(Number(notice.more) > 0 ? [`and ${number(notice.more)} more`] : []))))));
}

function renderLedger() {
  const ledger = state.overview?.ledger ?? {};
  const [word, kind] = ledger.verified === true ? ["yes", "yes"] : ledger.verified === false ? ["NO", "no"] : ["not checked yet", ""];
  const leaves = Math.max(Number(ledger.leaves) || 0, state.leaves);
  const pair = (name, text, css) => el("div", {}, el("dt", { text: name }), el("dd", { class: css, text }));
  put($("ledger-figures"),
    pair("leaves", number(leaves)), pair("intents", number(ledger.intents)), pair("refusals", number(ledger.refusals)),
    pair("size", bytes(ledger.bytes)), pair("verified", word, kind));
  $("ledger-root").textContent = ledger.root ? `root ${cut(ledger.root)}` : "";
  $("top-ledger").textContent = `${plural(leaves, "leaf", "leaves")}, ${ledger.verified === true ? "verified" : ledger.verified === false ? "NOT verified" : "not checked yet"}`;
}

// ---- The hub

function renderTop() {
  const home = state.overview?.home ?? {};
  $("home-name").textContent = cut(home.name);
  const speed = Number(home.speed) || 1;
  $("speed").textContent = home.demo
    ? `simulated; ${speed === 1 ? "in real time" : `a minute here is ${span(speed * 60)} there`}` : "";
}

function span(seconds) {
  if (seconds >= 5400) return `${tenth.format(seconds / 3600)} hours`;
  return seconds >= 90 ? `${tenth.format(seconds / 60)} minutes` : `${tenth.format(seconds)} seconds`;
}

// Not known until tried: the page comes with its first data, and listens after that.
const isLive = { api: true, events: null };
function renderState() {
  const live = isLive.api && isLive.events;
  const down = !isLive.api || isLive.events === false;
  const text = live ? "live" : down ? "trying again" : "connecting";
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").className = `state ${live ? "live" : down ? "down" : ""}`;
}

async function read(path) {
  try {
    const answer = await fetch(path, { cache: "no-store" });
    if (answer.status === 404) return undefined;
    if (!answer.ok) throw new Error(String(answer.status));
    const json = await answer.json();
    isLive.api = true;
    return json;
  } catch {
    isLive.api = false;
    return null;
  } finally {
    renderState();
  }
}

function setClock(at, speed) {
  state.clock = { at: Number(at) || 0, since: performance.now(), speed: Number(speed) || 1 };
}

async function fetchOverview() {
  takeOverview(await read("/api/overview"));
}

function takeOverview(overview) {
  if (!overview) return;
  overview.links = list(overview.links).sort((a, b) => rank(a) - rank(b));
  state.overview = overview;
  state.zone = overview.home?.timezone || "UTC";
  setClock(overview.home?.now, overview.home?.speed);
  if (!chosen()) {
    const wanted = decodeHash();
    const first = links().find((link) => link.profile === wanted) ?? links().find((link) => link.profile === "glance") ?? links()[0];
    state.link = first?.id ?? null;
  }
  renderTop();
  renderChoice();
  if (links().length === 0) {
    renderDay();
    renderTruth();
    renderDemands();
  }
  $("only").parentElement.hidden = links().length < 2;
  $("pause").hidden = links().length === 0;
  renderThermostats();
  renderDocket();
  renderSay();
  renderLedger();
}

function decodeHash() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

async function fetchDay(id) {
  if (id) takeDay(id, await read(`/api/day/${encodeURIComponent(id)}`));
}

function takeDay(id, day) {
  if (!day || !(day.to > day.from)) return;
  const first = !state.days.has(id);
  state.days.set(id, day);
  // Links that are gone leave nothing behind.
  for (const known of state.days.keys()) if (!links().some((link) => link.id === known)) state.days.delete(known);
  if (state.link === id) renderDay(first && Boolean(drawn.told?.svg));
}

function onEvent(event) {
  if (event.type === "asked") {
    if (state.waiting.length < MAX_WAITING) state.waiting.push(event);
    else state.missed += 1;
  } else if (event.type === "tick") {
    setClock(event.now, state.clock.speed);
    state.leaves = Number(event.leaves) || state.leaves;
  } else if (event.type === "docket") {
    fetchOverview();
  } else if (event.type === "lagged") {
    state.missed += Number(event.missed) || 0;
  }
}

function listen() {
  const events = new EventSource("/api/events");
  events.onopen = () => {
    isLive.events = true;
    renderState();
  };
  events.onmessage = (message) => {
    try {
      onEvent(JSON.parse(message.data));
    } catch {
      state.missed += 1;
    }
  };
  events.onerror = () => {
    isLive.events = false;
    renderState();
    // A refused stream is not tried again by the browser itself.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_AFTER);
  };
}

/** Repeats `work`, one at a time, and not while the page is out of sight. */
function repeat(work, every) {
  setTimeout(async () => {
    if (!document.hidden) await work();
    repeat(work, every);
  }, every);
}

$("scrub").addEventListener("input", (event) => {
  const day = state.days.get(state.link);
  if (day) setCursor(day.from + Number(event.target.value) * 60000);
});
$("scrub-now").addEventListener("click", () => setCursor(null));
$("only").addEventListener("change", renderStream);
$("curtain").addEventListener("submit", (event) => event.preventDefault());
$("pause").addEventListener("click", () => {
  state.paused = !state.paused;
  $("pause").setAttribute("aria-pressed", String(state.paused));
  $("pause").textContent = "Pause";
  flush();
});
new ResizeObserver(() => {
  if (drawn.told?.canvas.clientWidth !== drawn.told?.width) renderDay();
}).observe($("stage"));
narrow.addEventListener("change", () => renderDay());

setInterval(() => {
  if (state.overview) $("clock").textContent = clockTime(now());
}, 250);
repeat(fetchOverview, OVERVIEW_EVERY);
repeat(() => fetchDay(state.link), DAY_EVERY);
setInterval(flush, STREAM_EVERY);
setInterval(announce, ANNOUNCE_EVERY);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) fetchOverview();
});

// The page comes with its first data; a page opened from another site has to ask for them.
const data = $("data") ? JSON.parse($("data").textContent) : null;
if (data) {
  takeOverview(data.overview);
  for (const [id, day] of Object.entries(data.days)) takeDay(id, day);
} else {
  await fetchOverview();
}
listen();
for (const link of links()) if (!state.days.has(link.id)) await fetchDay(link.id);
