// Reading off and zooming a timeline. Without this script the page says the same; it only takes more squinting.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1056, HEIGHT = 250, TOP = 26, BOTTOM = 218;

function make(tag, attributes, parent, text) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  parent?.append(made);
  return made;
}

function draw(tag, attributes, parent, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

const three = (value) => Number(value.toPrecision(3)).toLocaleString("en");

function ticks(low, high, count) {
  const rough = (high - low) / count, decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * decade).find((one) => one >= rough);
  const found = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + 1e-9 * step; place++)
    found.push(Number((place * step).toPrecision(12)));
  return found;
}

function decades(low, high) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low) - 1e-9); 10 ** power <= high * 1.0001; power++) found.push(10 ** power);
  return found;
}

class Timeline {
  constructor(figure) {
    this.data = JSON.parse(figure.dataset.detail);
    [this.first, this.last] = this.data.window;
    this.width = (this.last - this.first) / this.data.count;
    this.columns = new Map(this.data.columns.map((column) => [column[0], column]));
    [this.from, this.to] = this.data.window;
    this.at = (this.from + this.to) / 2;
    this.build(figure);
    this.show();
    this.cursor.hidden = true;
    this.said.textContent = "Point at the figure or move the slider to read it off; drag across it with a mouse to zoom.";
  }

  build(figure) {
    const image = figure.querySelector("img"), scroll = image.parentElement;
    const frame = make("div", { class: "frame" }, scroll);
    const plot = make("div", { class: "plot" }, frame);
    plot.append(image);
    this.image = image;
    this.part = make("div", { class: "part" }, plot);
    this.cursor = make("div", { class: "cursor" }, plot);
    this.detail = make("div", { class: "detail" }, frame);
    const row = make("div", { class: "reading" }, frame);
    this.slider = make("input", { type: "range", step: "any", "aria-label": `Seconds since the injection started, ${this.data.name}` }, row);
    const [left, right] = this.data.box;
    this.slider.style.marginLeft = `${100 * left}%`;
    this.slider.style.width = `${100 * (right - left)}%`;
    const bar = make("div", { class: "reading" });
    scroll.after(bar);
    for (const [label, factor] of [["Zoom in", 1 / 3], ["Zoom out", 3], ["Whole run", Infinity]])
      make("button", { type: "button", "aria-label": `${label}, ${this.data.name}` }, bar, label).onclick = () => this.zoom(factor);
    this.said = make("span", { class: "said" }, bar);
    this.slider.oninput = () => this.move(Number(this.slider.value));
    this.slider.onkeydown = (event) => this.key(event);
    image.draggable = false;
    image.onpointermove = (event) => this.point(event);
    image.onpointerdown = (event) => { if (event.pointerType === "mouse") this.held = this.time(event); };
    this.detail.onpointermove = (event) => this.move(this.time(event, this.from, this.to));
    window.addEventListener("pointerup", () => this.release());
  }

  time(event, first = this.first, last = this.last) {
    const box = this.image.getBoundingClientRect(), [left, right] = this.data.box;
    const share = ((event.clientX - box.left) / box.width - left) / (right - left);
    return first + Math.min(1, Math.max(0, share)) * (last - first);
  }

  point(event) {
    const at = this.time(event);
    if (this.held !== undefined) this.dragged = [Math.min(this.held, at), Math.max(this.held, at)];
    this.mark(this.dragged ?? [this.from, this.to]);
    this.move(at);
  }

  release() {
    const chosen = this.dragged;
    this.held = this.dragged = undefined;
    if (chosen && chosen[1] - chosen[0] > 3 * this.width) this.look(...chosen);
    else if (chosen) this.mark([this.from, this.to]);
  }

  key(event) {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -20, PageUp: 20 };
    if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? 1 / 3 : 3);
    else if (event.key in steps) this.move(this.step(steps[event.key]));
    else return;
    event.preventDefault();
  }

  zoom(factor) {
    const span = Math.min(this.last - this.first, Math.max(10 * this.width, factor * (this.to - this.from)));
    const from = Math.min(this.last - span, Math.max(this.first, this.at - span / 2));
    this.look(from, from + span);
  }

  look(from, to) {
    const whole = to - from > 0.999 * (this.last - this.first);
    [this.from, this.to] = whole ? this.data.window : [from, to];
    this.at = Math.min(to, Math.max(from, this.at));
    this.show();
  }

  move(at) {
    this.at = at;
    const index = this.nearest(Math.min(this.data.count - 1, Math.floor((at - this.first) / this.width)));
    const text = this.words(index);
    this.slider.value = at;
    this.slider.setAttribute("aria-valuetext", text);
    this.said.textContent = text;
    this.cursor.hidden = false;
    this.cursor.style.left = `${100 * this.across(at)}%`;
    if (!this.beam) return;
    const [left, right] = this.data.box, share = (at - this.from) / (this.to - this.from);
    const inside = share >= 0 && share <= 1;
    this.beam.setAttribute("d", inside ? `M${WIDTH * (left + share * (right - left))} ${TOP}V${BOTTOM}` : "");
  }

  // Columns are finer than probes are dense, so that the one under the pointer may be empty.
  nearest(index) {
    for (let away = 0; away < 0.02 * this.data.count; away++)
      for (const near of [index - away, index + away]) if (this.columns.has(near)) return near;
    return index;
  }

  step(count) {
    const places = this.data.columns.map((column) => column[0]);
    const here = places.indexOf(this.nearest(Math.floor((this.at - this.first) / this.width)));
    const next = places[Math.min(places.length - 1, Math.max(0, here + count))];
    return Math.min(this.to, Math.max(this.from, this.first + (next + 0.5) * this.width));
  }

  words(index) {
    const column = this.columns.get(index), time = (this.first + (index + 0.5) * this.width).toFixed(this.width < 0.05 ? 2 : 1);
    if (!column) return `${time} s: no probe`;
    const [, probes, failed, low, median, high, late] = column;
    const latency = low === null ? "none succeeded" : probes - failed === 1 ? `${three(low)} ms` : `median ${three(median)} ms (${three(low)} to ${three(high)})`;
    return `${time} s: ${latency}; ${failed} of ${probes} ${probes === 1 ? "probe" : "probes"} failed${late ? `; ${late} sent late` : ""}`;
  }

  across(at) {
    const [left, right] = this.data.box;
    return left + ((at - this.first) / (this.last - this.first)) * (right - left);
  }

  mark([from, to]) {
    this.part.hidden = from <= this.first && to >= this.last;
    this.part.style.left = `${100 * this.across(from)}%`;
    this.part.style.width = `${100 * (this.across(to) - this.across(from))}%`;
  }

  show() {
    this.mark([this.from, this.to]);
    [this.slider.min, this.slider.max] = [this.from, this.to];
    this.detail.replaceChildren();
    this.beam = undefined;
    if (this.from > this.first || this.to < this.last) this.enlarge();
    this.move(this.at);
  }

  enlarge() {
    const [left, right] = this.data.box.map((share) => share * WIDTH), [low, high] = this.data.limits;
    const x = (at) => left + ((at - this.from) / (this.to - this.from)) * (right - left);
    const level = this.data.log ? Math.log : (value) => value, floor = this.data.log ? low : 0;
    const y = (value) => BOTTOM - ((level(value) - level(floor)) / (level(high) - level(floor))) * (BOTTOM - TOP - 14);
    const words = `${this.data.name}, enlarged from ${this.from.toFixed(2)} to ${this.to.toFixed(2)} s`;
    const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words }, this.detail);
    const begin = Math.max(this.from, 0), end = Math.min(this.to, this.data.end ?? -Infinity);
    if (end > begin) draw("rect", { class: "shade", x: x(begin), y: TOP, width: x(end) - x(begin), height: BOTTOM - TOP }, svg);
    for (const at of ticks(this.from, this.to, 8)) {
      draw("line", { class: "grid", x1: x(at), x2: x(at), y1: TOP, y2: BOTTOM }, svg);
      draw("text", { x: x(at), y: BOTTOM + 14, "text-anchor": "middle" }, svg, at);
    }
    for (const value of this.data.log ? decades(low, high) : ticks(0, high, 4)) {
      draw("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }, svg);
      draw("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, svg, value.toLocaleString("en"));
    }
    draw("text", { x: left, y: TOP - 8 }, svg, "enlarged: latency, ms; fastest to slowest, line: median; ticks above: failed" + (this.data.columns.some((column) => column[6]) ? ", below: sent late" : ""));
    draw("text", { x: (left + right) / 2, y: BOTTOM + 29, "text-anchor": "middle" }, svg, "s since the injection started");
    this.trace(svg, x, y);
    this.beam = draw("path", { class: "beam" }, svg);
  }

  trace(svg, x, y) {
    let strokes = "", failures = "", median = "", notches = "", last = -2;
    for (const [index, , failed, low, middle, high, late] of this.data.columns) {
      const at = this.first + (index + 0.5) * this.width;
      if (at < this.from || at > this.to) continue;
      if (late) notches += `M${x(at)} ${BOTTOM}v-7`;
      if (failed) failures += `M${x(at)} ${TOP + 1}v10`;
      if (low === null) { last = -2; continue; }
      strokes += `M${x(at)} ${y(low) + 0.5}V${y(high) - 0.5}`;
      median += `${last < 0 ? "M" : "L"}${x(at)} ${y(middle)}`;
      last = index;
    }
    draw("path", { class: "strokes", d: strokes }, svg);
    draw("path", { class: "median", d: median }, svg);
    draw("path", { class: "failures", d: failures }, svg);
    draw("path", { class: "late", d: notches }, svg);
  }
}

for (const figure of document.querySelectorAll("figure[data-detail]")) new Timeline(figure);
