"""The page's style sheet and its script; both stand in the page, which needs nothing from anywhere else.

The palette is Okabe and Ito's for every kind of colour vision ("Color Universal Design", 2008), darker or
lighter where the background asks for it. The script only reads out what stands below the pointer or, with the
arrow keys, below a chart's cursor. Neither may hold < or &, so that the page stays well-formed XML.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #16202c; --soft: #56616f; --rule: #dfe3e8; --grid: #eceff2;
  --tone1: #0064a8; --tone2: #c84f00; --tone3: #00805c; --tone4: #a0497d; --tone5: #6b7682;
  --held: #00704f; --broken: #b33c00; --open: #56616f;
  --held-wash: #e4f4ee; --broken-wash: #fdebe1; --open-wash: #eceff2;
  --fault: #c84f00; --mono: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, monospace;
}
@media (prefers-color-scheme: dark) { :root {
  --page: #10151b; --card: #181f27; --ink: #e6eaef; --soft: #9ca8b5; --rule: #2d3742; --grid: #242d37;
  --tone1: #5cb8f0; --tone2: #f29b4b; --tone3: #3fc9a0; --tone4: #e59ac6; --tone5: #98a4b1;
  --held: #4fd0a8; --broken: #ff9d66; --open: #9ca8b5;
  --held-wash: #14302a; --broken-wash: #3a2318; --open-wash: #242d37; --fault: #f29b4b;
} }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 28px 20px 48px; max-width: 1160px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1, h2, h3, p, ul, ol, dl, figure { margin: 0; padding: 0; }
ul, ol { list-style: none; }
h1 { font-size: 28px; line-height: 1.2; letter-spacing: -0.01em; text-wrap: balance; }
h2 { font-size: 17px; margin: 36px 0 10px; }
h2 small, h3 small { font-weight: 400; color: var(--soft); font-size: 13px; }
h3 { font-size: 14px; }
code, .id { font-family: var(--mono); font-size: 0.88em; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px 16px; }
.eyebrow { color: var(--soft); font-size: 13px; margin-bottom: 4px; }
.facts { color: var(--soft); margin-top: 6px; overflow-wrap: anywhere; }
.facts b { color: var(--ink); font-weight: 600; }
.glyph { display: inline-block; min-width: 1.1em; font-weight: 700; }
.held .glyph, .held .word { color: var(--held); }
.broken .glyph, .broken .word { color: var(--broken); }
.open .glyph, .open .word { color: var(--open); }
.verdicts { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 12px; margin-top: 20px; }
.verdicts li { border-radius: 10px; padding: 12px 16px; border: 1px solid var(--rule);
  border-left-width: 5px; }
.verdicts .held { background: var(--held-wash); border-color: var(--held); }
.verdicts .broken { background: var(--broken-wash); border-color: var(--broken); }
.verdicts .open { background: var(--open-wash); border-color: var(--open); }
.verdicts h2 { margin: 0 0 2px; font-size: 16px; }
.verdicts p { font-size: 14px; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); margin-top: 12px;
  overflow: hidden;
  background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.figures div { padding: 10px 16px; box-shadow: 1px 1px 0 var(--rule); }
.figures dt { color: var(--soft); font-size: 12.5px; }
.figures dd { margin: 0; font-size: 21px; font-weight: 600; font-variant-numeric: tabular-nums;
  letter-spacing: -0.01em; }
.remarks li { padding: 5px 0 5px 22px; text-indent: -22px; overflow-wrap: anywhere; }
.remarks li + li { border-top: 1px solid var(--grid); }
.remarks .glyph { width: 22px; text-indent: 0; color: var(--tone2); }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0 20px; align-items: start; }
.scroll { overflow-x: auto; padding: 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 6px 12px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--grid); }
tbody tr:last-child td, tbody tr:last-child th { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 500; font-size: 12.5px; border-bottom: 1px solid var(--rule);
  vertical-align: bottom; }
tbody th { font-weight: 500; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.broken { background: var(--broken-wash); }
tr.broken .count { font-weight: 700; }
tr.zero td, tr.zero th { color: var(--soft); }
.ids { display: block; color: var(--soft); font-size: 12.5px; }
.latency th[scope=row] { position: sticky; left: 0; background: var(--card); }
.latency .corrected { background: var(--grid); }
.latency thead .span { text-align: center; border-bottom: 1px solid var(--rule); }
.charts { display: grid; gap: 12px; }
.charts.two { grid-template-columns: repeat(2, minmax(0, 1fr)); }
.chart { display: grid; grid-template-columns: 54px minmax(0, 1fr); grid-template-rows: auto 190px 22px;
  background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 12px 18px 6px 8px; }
.chart figcaption { grid-column: 1 / 3; padding: 0 0 10px 10px; }
.chart svg { display: block; width: 100%; height: 100%; }
.xlabels { grid-column: 2; overflow: visible; }
.ylabels { overflow: visible; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; }
.legend li { display: flex; align-items: center; gap: 6px; }
.chart .swatch { width: 28px; height: 12px; }
.legend output { color: var(--soft); font-variant-numeric: tabular-nums; min-width: 6.6em; }
h3 .at { float: right; color: var(--soft); font-weight: 400; font-variant-numeric: tabular-nums; }
svg text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; text-anchor: middle; }
.ylabels text, text.last { text-anchor: end; }
text.first { text-anchor: start; }
.area { overflow: visible; cursor: crosshair; outline-offset: 3px; touch-action: pan-y; }
.area line { vector-effect: non-scaling-stroke; }
.grid { stroke: var(--grid); }
.border { stroke: var(--soft); stroke-dasharray: 2 3; }
.cross { stroke: var(--ink); visibility: hidden; }
.cross.on { visibility: visible; }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round;
  vector-effect: non-scaling-stroke; }
.dash1 { stroke-dasharray: 7 4; stroke-linecap: butt; }
.dash2 { stroke-dasharray: 1.5 3.5; stroke-width: 2; }
.dash3 { stroke-width: 6; opacity: 0.45; }
.band { stroke: none; opacity: 0.22; }
.tone1 { stroke: var(--tone1); } .band.tone1 { fill: var(--tone1); stroke: none; }
.tone2 { stroke: var(--tone2); } .band.tone2 { fill: var(--tone2); stroke: none; }
.tone3 { stroke: var(--tone3); } .band.tone3 { fill: var(--tone3); stroke: none; }
.tone4 { stroke: var(--tone4); } .band.tone4 { fill: var(--tone4); stroke: none; }
.tone5 { stroke: var(--tone5); } .band.tone5 { fill: var(--tone5); stroke: none; }
.fault { fill: var(--fault); opacity: 0.13; }
.hatch { stroke: var(--fault); opacity: 0.4; }
.instant { stroke: var(--fault); stroke-width: 2; }
svg .beyond { fill: var(--ink); font-weight: 600; }
.badge { fill: var(--card); stroke: var(--fault); stroke-width: 1.5; }
svg .badge-number { fill: var(--ink); font-weight: 700; font-size: 11px; }
.marks { margin: 0 0 10px; display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 14px; }
.marks b { display: inline-block; min-width: 20px; padding: 0 5px; margin-right: 6px; border-radius: 9px;
  text-align: center;
  border: 1.5px solid var(--fault); font-size: 12px; line-height: 17px; }
.phases { display: block; height: 20px; margin: 0 0 6px 63px; width: calc(100% - 82px); }
.phases rect { fill: var(--open-wash); stroke: var(--page); stroke-width: 2; }
.settings { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 18px;
  font-size: 14px; }
.settings dt { color: var(--soft); }
.settings dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
footer { margin-top: 32px; color: var(--soft); font-size: 13px; }
.offstage { position: absolute; width: 0; height: 0; }
@media (max-width: 860px) {
  .verdicts, .pair, .charts.two { grid-template-columns: minmax(0, 1fr); }
}
@media (max-width: 560px) {
  body { padding: 18px 12px 36px; }
  h1 { font-size: 23px; }
  .card.pad { padding: 12px; }
  .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .figures dd { font-size: 19px; }
  th, td { padding: 6px 8px; }
  .chart { grid-template-columns: 46px minmax(0, 1fr); grid-template-rows: auto 170px 22px;
    padding: 10px 12px 4px 4px; }
  .phases { margin-left: 51px; width: calc(100% - 64px); }
  .legend { flex-direction: column; width: 100%; }
  .legend output { margin-left: auto; text-align: right; }
  .settings { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .settings dd { margin-bottom: 8px; }
}
@media print {
  :root { color-scheme: light;
    --page: #ffffff; --card: #ffffff; --ink: #000000; --soft: #444444; --rule: #cccccc; --grid: #e8e8e8;
    --tone1: #0064a8; --tone2: #c84f00; --tone3: #00805c; --tone4: #a0497d; --tone5: #6b7682;
    --held: #00704f; --broken: #b33c00; --open: #56616f; --fault: #c84f00;
    --held-wash: #e4f4ee; --broken-wash: #fdebe1; --open-wash: #eceff2; }
  body { max-width: none; padding: 0; font-size: 12px; print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
  .verdicts { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .charts.two { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .chart, .verdicts li, .remarks, tr { break-inside: avoid; }
  h2, .marks, .phases { break-after: avoid; }
  .latency th, .latency td { padding: 4px 5px; font-size: 10.5px; }
}
"""

SCRIPT = """
"use strict";
const readings = JSON.parse(document.getElementById("readings").textContent);
const figures = [...document.querySelectorAll("figure[data-chart]")];
const resting = new Map();
for (const output of document.querySelectorAll("figure output")) resting.set(output, output.textContent);

function show(group, index) {
  const place = readings.groups[group];
  for (const figure of figures.filter(each => each.dataset.group === group)) {
    const cross = figure.querySelector(".cross");
    cross.setAttribute("x1", place.x[index] * 100 + "%");
    cross.setAttribute("x2", place.x[index] * 100 + "%");
    cross.classList.add("on");
    figure.querySelector(".at").textContent = place.at[index];
    const words = readings.charts[figure.dataset.chart];
    figure.querySelectorAll("output").forEach((output, line) => { output.textContent = words[line][index]; });
  }
}

function rest(group) {
  for (const figure of figures.filter(each => each.dataset.group === group)) {
    figure.querySelector(".cross").classList.remove("on");
    figure.querySelector(".at").textContent = "";
    for (const output of figure.querySelectorAll("output")) output.textContent = resting.get(output);
  }
}

for (const figure of figures) {
  const group = figure.dataset.group;
  const x = readings.groups[group].x;
  const area = figure.querySelector(".area");
  let index = 0;
  const move = to => { index = Math.max(0, Math.min(x.length - 1, to)); show(group, index); };
  const point = event => {
    const box = area.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    const after = x.findIndex(place => place > share);
    const right = after === -1 ? x.length - 1 : after;
    const left = Math.max(0, right - 1);
    move(x[right] - share > share - x[left] ? left : right);
  };
  area.addEventListener("pointermove", point);
  area.addEventListener("pointerdown", point);
  area.addEventListener("pointerleave", () => rest(group));
  area.addEventListener("blur", () => rest(group));
  area.addEventListener("keydown", event => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -x.length, End: x.length };
    if (event.key in steps) { event.preventDefault(); move(index + steps[event.key]); }
    if (event.key === "Escape") rest(group);
  });
}
"""
