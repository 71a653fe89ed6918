"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const COLORS = [0, 1, 2, 3, 4, 5, 6, 7].map((k) => `var(--line-${k})`);
const SVG = "http://www.w3.org/2000/svg";
const PAGE = 20;
const byId = (id) => document.getElementById(id);
const percent = (share) => (100 * share).toFixed(1);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") element.className = value; else if (value !== null) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}
function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
function figure(title, svg, key = []) {
  const box = make("figure", {}, make("figcaption", {}, title), svg);
  if (key.length > 1) {
    box.append(make("div", { class: "key" }, ...key.map(([name, color]) => {
      const mark = make("i"); mark.style.background = color;
      return make("span", {}, mark, name);
    })));
  }
  return box;
}
function ticks(low, high, count = 5) {
  if (!(high > low)) return [low];
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) out.push(Number(v.toPrecision(10)));
  return out;
}

// Lines: [{name, points: [[x, y]], color, dashed, dots}]
function lineChart(title, lines, { xLabel, yLabel, yRange, xRange, xTicks = null, logX = false, diagonal = false, format = String } = {}) {
  const width = 480, height = 280, left = 52, right = 14, top = 10, bottom = 42;
  const all = lines.flatMap((line) => line.points);
  const xs = all.map((p) => p[0]), ys = all.map((p) => p[1]);
  const [x0, x1] = xRange || [Math.min(...xs), Math.max(...xs)];
  let [y0, y1] = yRange || [Math.min(...ys), Math.max(...ys)];
  if (y0 === y1) { y0 -= 0.5; y1 += 0.5; }
  const place = (v) => (logX ? Math.log(v) : v);
  const span = place(x1) - place(x0) || 1;
  const px = (v) => left + (width - left - right) * (place(v) - place(x0)) / span;
  const py = (v) => height - bottom - (height - top - bottom) * (v - y0) / (y1 - y0);
  const description = lines.map((line) => {
    const last = line.points[line.points.length - 1];
    return last ? `${line.name}: ${format(line.points[0][1])} to ${format(last[1])}` : line.name;
  }).join("; ");
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}. ${description}` });
  for (const t of ticks(y0, y1)) {
    svg.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: py(t), y2: py(t) }));
    svg.append(draw("text", { x: left - 6, y: py(t) + 4, "text-anchor": "end" }, format(t)));
  }
  const marked = xTicks || (logX ? [...new Set(xs)].filter((v) => v >= x0 && v <= x1) : ticks(x0, x1));
  let lastAt = -100;
  for (const t of marked) {
    if (px(t) - lastAt < 34) continue;
    lastAt = px(t);
    svg.append(draw("text", { x: px(t), y: height - bottom + 16, "text-anchor": "middle" }, String(t)));
  }
  svg.append(draw("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  svg.append(draw("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel || ""));
  if (yLabel) svg.append(draw("text", { x: -(top + height - bottom) / 2, y: 13, transform: "rotate(-90)", "text-anchor": "middle" }, yLabel));
  if (diagonal) svg.append(draw("line", { class: "axis", "stroke-dasharray": "4 4", x1: px(x0), y1: py(x0), x2: px(x1), y2: py(x1) }));
  for (const line of lines) {
    const path = line.points.map(([x, y], k) => `${k ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    svg.append(draw("path", { d: path, fill: "none", stroke: line.color, "stroke-width": 2, "stroke-dasharray": line.dashed ? "6 4" : "none" }));
    if (line.dots) for (const [x, y] of line.points) svg.append(draw("circle", { cx: px(x), cy: py(y), r: 3.5, fill: line.color }));
  }
  return figure(title, svg, lines.map((line) => [line.name, line.color]));
}

function conditionChart(bars) {
  const rowHeight = 26, left = 150, width = 480, right = 96, top = 4;
  const height = top + rowHeight * bars.rows.length + 26;
  const px = (v) => left + (width - left - right) * v;
  const description = bars.rows.map((r) => `${r.value}: ${percent(r.recall)} % of ${r.n}`).join("; ");
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `recall@1 by ${bars.title}. ${description}` });
  for (const t of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(draw("line", { class: "grid", x1: px(t), x2: px(t), y1: top, y2: height - 24 }));
    svg.append(draw("text", { x: px(t), y: height - 8, "text-anchor": "middle" }, String(100 * t)));
  }
  bars.rows.forEach((row, k) => {
    const y = top + k * rowHeight;
    const name = row.value.length > 20 ? `${row.value.slice(0, 19)}…` : row.value;
    svg.append(draw("text", { x: left - 8, y: y + 17, "text-anchor": "end" }, name));
    svg.append(draw("rect", { x: left, y: y + 5, width: Math.max(1, px(row.recall) - left), height: rowHeight - 10, class: "share" }));
    svg.append(draw("line", { x1: px(row.low), x2: px(row.high), y1: y + rowHeight / 2, y2: y + rowHeight / 2, class: "interval" }));
    for (const end of [row.low, row.high]) svg.append(draw("line", { x1: px(end), x2: px(end), y1: y + 9, y2: y + rowHeight - 9, class: "interval" }));
    svg.append(draw("text", { x: width - right + 8, y: y + 17 }, `${percent(row.recall)} (n ${row.n})`));
  });
  return figure(bars.title, svg);
}

// The map.
const view = { x: 0, y: 0, scale: 1, fit: 1, base: { x: 0, y: 0 }, chosen: null };
function mapPoints(set) {
  const map = byId("map");
  map.replaceChildren();
  byId("where").hidden = !set.map;
  if (!set.map) return;
  const group = draw("g", { id: "map-points" });
  const all = set.map.database.concat(set.map.queries);
  const xs = all.map((p) => p[0]), ys = all.map((p) => p[1]);
  const width = Math.max(1, Math.max(...xs) - Math.min(...xs)), height = Math.max(1, Math.max(...ys) - Math.min(...ys));
  view.fit = Math.min(760 / width, 480 / height);
  view.base = { x: (Math.max(...xs) + Math.min(...xs)) / 2, y: (Math.max(...ys) + Math.min(...ys)) / 2 };
  const at = (p) => [(p[0] - view.base.x) * view.fit, -(p[1] - view.base.y) * view.fit];
  for (const p of set.map.database) { const [x, y] = at(p); group.append(draw("circle", { cx: x, cy: y, r: 1.5, class: "database", "data-r": 1.5 })); }
  let found = 0;
  set.map.queries.forEach((p, q) => {
    const [x, y] = at(p), rank = set.queries.rank[q];
    const right = rank === 1;
    found += right;
    const mark = right || !set.labelled
      ? draw("circle", { cx: x, cy: y, r: 5, "data-r": 5 })
      : draw("path", { d: "M0 -6L6 5L-6 5Z", "data-x": x, "data-y": y });
    mark.setAttribute("class", `query ${!set.labelled ? "unlabelled" : right ? "found" : "lost"}`);
    mark.setAttribute("data-query", q);
    const state = !set.labelled ? "" : right ? ": found" : rank ? `: first positive at rank ${rank}` : ": not found";
    mark.append(draw("title", {}, `${set.queries.title[q] || set.queries.image[q]}${state}`));
    group.append(mark);
  });
  map.append(draw("g", { id: "map-streets" }), group, draw("g", { id: "map-scale" }), north());
  byId("streets").hidden = !set.map.mercator.length;
  byId("map-status").textContent = set.labelled ? `${found} of ${set.map.queries.length} queries found` : "";
  map.setAttribute("aria-label", set.labelled ? `Map of the queries: ${found} of ${set.map.queries.length} found` : "Map of the queries");
  showAll();
}
function north() {
  const arrow = draw("g", { class: "furniture", transform: "translate(772 34)" });
  arrow.append(draw("path", { d: "M0 -18L7 4L0 0L-7 4Z" }), draw("text", { y: 18, "text-anchor": "middle" }, "N"));
  return arrow;
}
function drawScale() {
  const unitsOfMetre = view.fit * view.scale;
  const metres = [1, 2, 5].flatMap((m) => [0, 1, 2, 3, 4, 5].map((p) => m * 10 ** p)).filter((m) => m * unitsOfMetre <= 160).reduce((a, b) => Math.max(a, b), 1);
  const length = metres * unitsOfMetre, text = metres >= 1000 ? `${metres / 1000} km` : `${metres} m`;
  byId("map-scale").replaceChildren(draw("path", { d: `M20 492V500H${(20 + length).toFixed(1)}V492`, class: "furniture line" }), draw("text", { x: 20 + length / 2, y: 488, "text-anchor": "middle" }, text));
}
// Metres east and north of the whole map's origin, of a point of the drawing whose middle is (0, 0).
function metresAt(x, y) {
  return [view.base.x + (x - view.x) / view.scale / view.fit, view.base.y - (y - view.y) / view.scale / view.fit];
}
function tellPosition(x, y) {
  const [east, north_] = metresAt(x, y), { origin, zone } = current.map;
  byId("map-where").textContent = zone ? `${Math.round(origin[0] + east)} E ${Math.round(origin[1] + north_)} N ${zone}` : "";
}
// Tiles of OpenStreetMap below the points. Nothing is fetched before the reader asks for it.
let streets = false;
const MAX_TILE_ZOOM = 19, TILE_PX = 256;
function drawStreets() {
  const group = byId("map-streets"), [a, b, c, d, e, f] = current.map.mercator;
  byId("streets-note").hidden = !streets || !current.map.mercator.length;
  if (byId("streets-note").hidden) { group.replaceChildren(); return; }
  const corners = [[-400, -260], [400, -260], [-400, 260], [400, 260]].map(([x, y]) => metresAt(x, y)).map(([x, y]) => [a * x + b * y + c, d * x + e * y + f]);
  const [xs, ys] = [0, 1].map((axis) => corners.map((corner) => corner[axis]));
  const zoomLevel = Math.min(MAX_TILE_ZOOM, Math.round(Math.log2(800 / TILE_PX / (Math.max(...xs) - Math.min(...xs)))));
  const count = 2 ** zoomLevel, tileOf = (v) => Math.min(count - 1, Math.max(0, Math.floor(v * count)));
  const inMap = (x, y) => {
    const [u, v, area] = [x / count - c, y / count - f, a * e - b * d];
    return [((e * u - b * v) / area - view.base.x) * view.fit, -((a * v - d * u) / area - view.base.y) * view.fit];
  };
  const wanted = new Map();
  for (let x = tileOf(Math.min(...xs)); x <= tileOf(Math.max(...xs)); x += 1)
    for (let y = tileOf(Math.min(...ys)); y <= tileOf(Math.max(...ys)); y += 1) wanted.set(`${zoomLevel}/${x}/${y}`, [x, y]);
  for (const image of [...group.children]) if (!wanted.delete(image.dataset.tile)) image.remove();
  for (const [tile_, [x, y]] of wanted) {
    const [at, right, below] = [inMap(x, y), inMap(x + 1, y), inMap(x, y + 1)];
    const turn = [right, below].flatMap((p) => [(p[0] - at[0]) / TILE_PX, (p[1] - at[1]) / TILE_PX]);
    const image = draw("image", { href: `https://tile.openstreetmap.org/${tile_}.png`, width: TILE_PX, height: TILE_PX, "data-tile": tile_, transform: `matrix(${[...turn, ...at].join(" ")})` });
    image.onerror = () => { image.remove(); byId("streets-note").querySelector("span").textContent = ". They cannot be fetched: is this machine online?"; };
    group.append(image);
  }
}
function applyView() {
  const group = byId("map-points");
  if (!group) return;
  drawStreets();
  byId("map-streets").setAttribute("transform", `translate(${400 + view.x} ${260 + view.y}) scale(${view.scale})`);
  drawScale();
  tellPosition(0, 0);
  group.setAttribute("transform", `translate(${400 + view.x} ${260 + view.y}) scale(${view.scale})`);
  for (const mark of group.children) {
    if (mark.dataset.r) mark.setAttribute("r", Number(mark.dataset.r) / view.scale);
    else mark.setAttribute("transform", `translate(${mark.dataset.x} ${mark.dataset.y}) scale(${1 / view.scale})`);
    mark.classList.toggle("chosen", mark.dataset.query !== undefined && Number(mark.dataset.query) === view.chosen);
  }
}
function showAll() { view.x = view.y = 0; view.scale = 1; applyView(); }
function zoom(factor, x = 0, y = 0) {
  const next = Math.min(200, Math.max(0.5, view.scale * factor)), change = next / view.scale;
  view.x = x - (x - view.x) * change; view.y = y - (y - view.y) * change; view.scale = next;
  applyView();
}
function listenToMap() {
  const map = byId("map");
  byId("zoom-in").onclick = () => zoom(1.5);
  byId("zoom-out").onclick = () => zoom(1 / 1.5);
  byId("zoom-all").onclick = showAll;
  byId("streets").onclick = () => {
    streets = !streets;
    byId("streets").setAttribute("aria-pressed", String(streets));
    applyView();
  };
  const inside = (event) => {
    const box = map.getBoundingClientRect();
    return [(event.clientX - box.left) * 800 / box.width - 400, (event.clientY - box.top) * 520 / box.height - 260];
  };
  map.addEventListener("wheel", (event) => {
    if (document.activeElement !== map && !event.ctrlKey) return;
    event.preventDefault(); zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...inside(event)); tellPosition(...inside(event)); }, { passive: false });
  let from = null, began = null, pressed = null;
  map.addEventListener("pointerdown", (event) => { from = began = inside(event); pressed = event.target.closest("[data-query]"); map.setPointerCapture(event.pointerId); map.focus({ preventScroll: true }); });
  map.addEventListener("pointermove", (event) => {
    const to = inside(event);
    tellPosition(...to);
    if (!from) return;
    view.x += to[0] - from[0]; view.y += to[1] - from[1]; from = to;
    applyView();
    tellPosition(...to);
  });
  map.addEventListener("pointerup", (event) => {
    const to = inside(event), stayed = began && Math.hypot(to[0] - began[0], to[1] - began[1]) < 4;
    from = null;
    if (stayed && pressed) showQuery(Number(pressed.dataset.query));
  });
  map.addEventListener("pointercancel", () => { from = null; });
  map.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
    if (step) { view.x += step[0]; view.y += step[1]; applyView(); }
    else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") showAll();
    else return;
    event.preventDefault();
  });
}

function showOnMap(q) {
  const [x, y] = current.map.queries[q];
  view.chosen = q; view.scale = 4;
  view.x = -(x - view.base.x) * view.fit * view.scale; view.y = (y - view.base.y) * view.fit * view.scale;
  applyView();
  byId("where").scrollIntoView({ behavior: "smooth" });
  byId("map").focus({ preventScroll: true });
}

// The gallery.
let current = data.sets[0], shown = PAGE;
function heatCanvas(rows) {
  const canvas = make("canvas", { width: rows[0].length, height: rows.length, "aria-hidden": "true" });
  const context = canvas.getContext("2d"), pixels = context.createImageData(rows[0].length, rows.length);
  rows.forEach((row, y) => [...row].forEach((digit, x) => {
    const value = Number(digit) / 9, at = 4 * (y * row.length + x);
    pixels.data.set([255 * Math.min(1, 2 * value), 255 * Math.max(0, 1 - Math.abs(2 * value - 1)), 255 * Math.max(0, 1 - 2 * value), 40 + 215 * value], at);
  }));
  context.putImageData(pixels, 0, 0);
  return canvas;
}
function tile(kind, entry, heading, lines, heat) {
  const frame = make("button", { type: "button", class: "frame", "aria-label": `${heading}: enlarge` });
  const source = entry.thumb === null ? null : data.thumbs[entry.thumb];
  if (source) frame.append(make("img", { src: `data:image/jpeg;base64,${source}`, alt: `${heading}: ${entry.image}` }));
  else frame.append(make("p", {}, "image not there"));
  if (heat) frame.append(heatCanvas(heat));
  if (source) frame.onclick = () => enlarge(frame, heading, entry.image, lines.map(([text]) => text));
  else frame.disabled = true;
  return make("div", { class: `tile ${kind}`, title: entry.image }, frame, make("b", {}, heading), ...lines.map(([text, style]) => make("div", { class: style || "" }, text)));
}
function enlarge(frame, heading, image, lines) {
  const dialog = byId("large");
  dialog.querySelector("div").replaceChildren(...[...frame.children].map((part) => {
    const copy = part.cloneNode(true);
    if (part.tagName === "CANVAS") copy.getContext("2d").drawImage(part, 0, 0);
    return copy;
  }));
  dialog.querySelector("div").className = byId("gallery").classList.contains("hot") ? "picture hot" : "picture";
  dialog.querySelector("p").textContent = [heading, ...lines, image].join(" · ");
  dialog.showModal();
}
function predictionTiles(predictions, heat) {
  return predictions.map((p, k) => {
    const lines = [[`similarity ${p.similarity.toFixed(3)}`]];
    if (p.metres !== null) lines.unshift([`${p.metres.toLocaleString("en")} m away`]);
    if (p.correct !== null) lines.unshift([p.correct ? "✓ right" : "✗ wrong", p.correct ? "mark-right" : "mark-wrong"]);
    return tile(p.correct === null ? "" : p.correct ? "right" : "wrong", p, `${k + 1}.`, lines, k === 0 ? heat : null);
  });
}
const SAME_WAY_DEG = 45;
function positiveLines(positive) {
  const lines = positive.metres === null ? [] : [[`${positive.metres} m away`]];
  if (positive.turn_deg !== null) lines.push([positive.turn_deg <= SAME_WAY_DEG ? `looks the same way (${Math.round(positive.turn_deg)}°)` : `a positive by distance only: it looks ${Math.round(positive.turn_deg)}° away`]);
  return lines;
}
function showQuery(q) {
  byId("which").value = "all"; byId("condition").value = "";
  const at = chosenCards().findIndex((entry) => entry.query === q);
  shown = Math.max(PAGE, at + 1);
  showCards();
  if (at < 0) { byId("gallery-status").textContent = `${current.queries.title[q] || current.queries.image[q]} has no thumbnails here, so that the page stays small`; byId("gallery").scrollIntoView(); return; }
  const box = byId("cards").children[at];
  view.chosen = q; applyView();
  box.scrollIntoView({ behavior: "smooth", block: "center" });
  box.focus({ preventScroll: true });
}
function card(entry) {
  const queries = current.queries, q = entry.query, rank = queries.rank[q];
  const state = !current.labelled ? "" : rank === 1 ? "found" : rank ? `first positive at rank ${rank}` : "no positive among the predictions";
  const details = Object.entries(queries.conditions).map(([title, c]) => c.codes[q] < 0 ? null : `${title}: ${c.values[c.codes[q]]}`).filter(Boolean);
  const confidence = queries.confidence.length ? [[`confidence ${(100 * queries.confidence[q]).toFixed(0)} %`]] : [];
  const heat = entry.heat || [null, null];
  const tiles = [tile("", { thumb: entry.thumb, image: queries.image[q] }, "query", confidence, heat[0]), ...predictionTiles(entry.predictions, heat[1])];
  if (entry.positive) tiles.push(tile("", entry.positive, "nearest positive", positiveLines(entry.positive)));
  const head = make("div", { class: "head" }, make("h3", {}, `${queries.title[q] || queries.image[q]}${state ? ` (${state})` : ""}`));
  if (current.map) {
    const button = make("button", { type: "button", class: "small" }, "On the map");
    button.onclick = () => showOnMap(q);
    head.append(button);
  }
  const box = make("article", { class: "card", tabindex: "0", "data-query": q }, head, make("div", { class: "row" }, ...tiles));
  if (entry.other) {
    box.querySelector(".row").before(make("h3", { class: "second" }, `${data.runs[0]}:`));
    box.append(make("h3", { class: "second" }, `${data.runs[1]}:`), make("div", { class: "row" }, ...predictionTiles(entry.other)));
  }
  if (details.length) box.append(make("p", { class: "note" }, details.join(" · ")));
  box.append(make("details", {}, make("summary", {}, "File names"), make("p", { class: "note" }, [queries.image[q], ...entry.predictions.map((p, k) => `${k + 1}. ${p.image}`)].join("\n"))));
  return box;
}
function chosenCards() {
  const queries = current.queries, which = byId("which").value, condition = byId("condition").value, order = byId("order").value;
  const passes = (entry) => {
    const right = queries.rank[entry.query] === 1;
    if (which === "wrong" && right) return false;
    if (which === "right" && !right) return false;
    if (which === "first" && !(right && !entry.other_found)) return false;
    if (which === "second" && !(!right && entry.other_found)) return false;
    if (condition) {
      const [title, code] = JSON.parse(condition);
      if (queries.conditions[title].codes[entry.query] !== code) return false;
    }
    return true;
  };
  const cards = current.cards.filter(passes);
  const hardness = (entry) => { // sure and wrong is hardest, sure and right is easiest
    const rank = queries.rank[entry.query], similarity = entry.predictions[0] ? entry.predictions[0].similarity : 0;
    return (rank || 1e6) + (rank === 1 ? -1 : 1) * similarity * 1e-3;
  };
  if (order === "hard") cards.sort((a, b) => hardness(b) - hardness(a));
  if (order === "easy") cards.sort((a, b) => hardness(a) - hardness(b));
  if (order === "file") cards.sort((a, b) => a.query - b.query);
  return cards;
}
function showCards() {
  const cards = chosenCards();
  byId("cards").replaceChildren(...cards.slice(0, shown).map(card));
  const left = current.queries.image.length - current.cards.length;
  byId("gallery-status").textContent = `${Math.min(shown, cards.length)} of ${cards.length} queries` + (left > 0 ? `; ${left} further queries have no thumbnails here, so that the page stays small` : "");
  byId("more").hidden = shown >= cards.length;
}
function listenToGallery() {
  for (const id of ["which", "condition", "order"]) byId(id).onchange = () => { shown = PAGE; showCards(); };
  byId("more").onclick = () => { shown += PAGE; showCards(); };
  byId("heat").onclick = () => {
    const on = byId("gallery").classList.toggle("hot");
    byId("heat").setAttribute("aria-pressed", String(on));
  };
}

function showSet(name) {
  current = data.sets.find((set) => set.name === name);
  shown = PAGE;
  for (const button of byId("sets").querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.textContent === name));
  const m = current.metrics;
  byId("set-title").textContent = `${name}: ${m.num_queries.toLocaleString("en")} queries, ${m.num_database.toLocaleString("en")} database images`;
  const charts = [];
  if (current.errors.length) charts.push(lineChart("Localisation error of the first prediction", [{ name: name, color: COLORS[0], dots: true, points: current.errors.map((e) => [e.metres, 100 * e.share]) }], { xLabel: "metres, at most", yLabel: "% of queries", yRange: [0, 100], logX: true }));
  const c = current.calibration;
  if (c) {
    charts.push(lineChart(`Confidence, learnt on ${c.fitted_on} (calibration error ${percent(c.error)} %)`, [{ name: "share that is right", color: COLORS[0], dots: true, points: c.bins.map((b) => [100 * b.confidence, 100 * b.correct]) }], { xLabel: "confidence, %", yLabel: "right, %", xRange: [0, 100], yRange: [0, 100], diagonal: true }));
    charts.push(lineChart("Precision and recall as --min-confidence varies", [{ name: "precision", color: COLORS[0], points: c.precision_recall.map((p) => [100 * p.recall, 100 * p.precision]) }], { xLabel: "queries answered correctly, %", yLabel: "answers that are right, %", xRange: [0, 100], yRange: [0, 100] }));
  }
  byId("set-charts").replaceChildren(...charts);
  byId("by-condition").hidden = !current.labelled;
  mapPoints(current);
  byId("conditions").replaceChildren(...(current.conditions.length ? current.conditions.map(conditionChart) : [make("p", { class: "note" }, "Only the position of these queries is known.")]));
  const which = [["all", "all queries"]];
  if (current.labelled) which.push(["wrong", "wrong only"], ["right", "right only"]);
  if (data.runs.length > 1) which.push(["first", `found by ${data.runs[0]} only`], ["second", `found by ${data.runs[1]} only`]);
  byId("which").replaceChildren(...which.map(([value, text]) => make("option", { value }, text)));
  const options = [make("option", { value: "" }, "any")];
  for (const [title, values] of Object.entries(current.queries.conditions)) values.values.forEach((v, k) => options.push(make("option", { value: JSON.stringify([title, k]) }, `${title}: ${v}`)));
  byId("condition").replaceChildren(...options);
  byId("heat").disabled = byId("heat-key").hidden = !current.cards.some((entry) => entry.heat);
  view.chosen = null;
  showCards();
}

function overview() {
  const ns = [...new Set(data.sets.flatMap((s) => Object.keys(s.metrics)).filter((k) => /^recall_at_\d+$/.test(k)).map((k) => Number(k.slice(10))))].sort((a, b) => a - b);
  const head = byId("recalls").tHead.rows[0];
  const names = ["set", ...ns.map((n) => `R@${n}`), ...(ns.length ? ["R@1 interval", "median error"] : []), "queries", "database", "positives", "image", "dim"];
  names.forEach((name, k) => head.append(make("th", { scope: "col", class: k > 0 && name !== "positives" && name !== "run" ? "number" : "" }, name)));
  for (const set of data.sets) {
    const all = [[data.runs[0], set.metrics, set.interval]];
    if (data.runs.length > 1) all.push([data.runs[1], set.other_metrics, set.other_interval]);
    for (const [run, m, interval] of all) {
      const row = make("tr", {}, make("th", { scope: "row" }, set.name, ...(data.runs.length > 1 ? [make("div", { class: "note" }, run)] : [])));
      const recalls = ns.map((n) => m[`recall_at_${n}`] === undefined ? "" : percent(m[`recall_at_${n}`]));
      const spread = ns.length ? [interval ? `${percent(interval[0])} to ${percent(interval[1])}` : "", m.median_error_m === undefined ? "" : `${m.median_error_m.toFixed(0)} m`] : [];
      const size = m.image_height_px ? `${m.image_height_px}x${m.image_width_px}` : "";
      const cells = [...recalls, ...spread, m.num_queries.toLocaleString("en"), m.num_database.toLocaleString("en"), m.positives, size, m.descriptor_dim || ""];
      cells.forEach((text, k) => row.append(make("td", { class: names[k + 1] === "positives" ? "" : "number" }, String(text))));
      byId("recalls").tBodies[0].append(row);
    }
  }
  const charts = [];
  const curves = data.sets.filter((s) => s.curve.length).flatMap((s, k) => {
    const line = (name, curve, dashed) => ({ name, dashed, color: COLORS[k % COLORS.length], points: curve.map((v, i) => [i + 1, 100 * v]) });
    return [line(data.runs.length > 1 ? `${s.name}, ${data.runs[0]}` : s.name, s.curve, false), ...(s.other_curve ? [line(`${s.name}, ${data.runs[1]} (dashed)`, s.other_curve, true)] : [])];
  });
  if (curves.length) charts.push(lineChart("recall@N", curves, { xLabel: "N", yLabel: "recall, %", yRange: [0, 100] }));
  const t = data.training;
  if (t.loss.length) charts.push(lineChart("Training loss", [{ name: "loss", color: COLORS[0], points: t.loss }], { xLabel: "step" }));
  if (t.validation.length) charts.push(lineChart("Validation recall while training", data.training.recalls.map((name, k) => ({ name, color: COLORS[k], dots: true, points: t.validation.map((row) => [row[0], 100 * row[k + 1]]) })), { xLabel: "epoch", yLabel: "recall, %", xTicks: t.validation.map((row) => row[0]) }));
  if (t.informative.length) charts.push(lineChart("Share of pairs or triplets that the miner picked", [{ name: "share", color: COLORS[0], points: t.informative.map(([x, y]) => [x, 100 * y]) }], { xLabel: "step", yLabel: "%" }));
  byId("overview").append(...charts);
  byId("over-all").hidden = !charts.length;
  for (const set of data.sets) {
    const button = make("button", { type: "button", "aria-pressed": "false" }, set.name);
    button.onclick = () => showSet(set.name);
    byId("sets").append(button);
  }
}

// What no two runs share (time, machine, commit) is in run.js beside the page, if that is of the same model.
function showRun() {
  const foot = byId("run");
  if (!foot || !window.vprRun || window.vprRun.model_sha256 !== foot.dataset.model) return;
  foot.textContent = window.vprRun.text;
  foot.hidden = false;
}

overview();
listenToMap();
listenToGallery();
showSet(data.start || data.sets[0].name);
showRun();
document.body.dataset.ready = "yes";
