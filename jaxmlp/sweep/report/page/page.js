const pictures = new Map([
  ["losses", () => drawCurves("losses", lossNames)],
  ["scores", () => scoreNames.length && drawCurves("scores", [$("score").value])],
  ["each", null],
  ["map", drawMap],
  ["matter", drawMatter],
  ["parallel", drawParallel],
]);
pictures.delete("each");
D.varied.forEach((name, i) => {
  const div = Object.assign(document.createElement("div"), { id: `each-${i}`, className: "picture" });
  $("each").append(div);
  pictures.set(div.id, () => drawEach(name));
});
const stale = new Set(),
  near = new Set();
let Plotly;
// Draws what is on the screen or near it; the rest is drawn when the reader scrolls to it.
const draw = () => {
  if (Plotly)
    for (const id of stale)
      if (near.has(id)) {
        stale.delete(id);
        pictures.get(id)();
      }
};
const refresh = (ids = [...pictures.keys()]) => {
  for (const id of ids) if (pictures.has(id)) stale.add(id);
  draw();
};
const watcher = new IntersectionObserver(
  entries => {
    for (const { target, isIntersecting } of entries) near[isIntersecting ? "add" : "delete"](target.id);
    draw();
  },
  { rootMargin: "300px" },
);
// Pictures have the width of the paper while they are printed, and that of the screen again afterwards.
const resize = () => {
  // Not `Plots.resize`, which waits for a moment: the print would come first.
  for (const id of pictures.keys()) if ($(id).data && $(id).offsetParent) Plotly.relayout($(id), { autosize: true });
};
addEventListener("beforeprint", () => {
  for (const id of pictures.keys()) near.add(id);
  draw();
  document.documentElement.classList.add("print");
  resize();
});
addEventListener("afterprint", () => {
  document.documentElement.classList.remove("print");
  resize();
});

function chips() {
  $("chips").replaceChildren(
    ...chosen.map(({ row, slot }) => {
      const button = document.createElement("button"),
        mark = document.createElement("i"),
        text = document.createElement("span");
      const { color, dash } = lineOf(slot);
      mark.style.background =
        dash === "solid"
          ? color
          : `repeating-linear-gradient(90deg, ${color} 0 ${dash === "dash" ? 5 : 2}px, transparent 0 7px)`;
      const end = value(row) === null ? D.columns.status[row] : short(value(row));
      text.textContent = `trial ${D.columns.trial[row]} · ${end} ✕`;
      button.title = D.varied.map(name => `${name} = ${short(D.columns[name][row])}`).join("\n");
      button.append(mark, text);
      button.onclick = () => table.row((_, data) => data === row).deselect();
      return button;
    }),
  );
}
const most = 24;
function choose() {
  const rows = table.rows({ selected: true }).data().toArray();
  chosen = chosen.filter(c => rows.includes(c.row));
  for (const row of rows)
    if (slotOf(row) === undefined && chosen.length < most) {
      const slot = range(0, most).find(s => !chosen.some(c => c.slot === s));
      chosen.push({ row, slot });
    }
  for (const tr of document.querySelectorAll("#trials tbody tr[data-row]"))
    tr.style.setProperty("--swatch", colorOf(+tr.dataset.row));
  const isThinned = D.curves.some(c => c.epoch?.length === D.mostEpochs);
  $("curves-note").textContent = [
    rows.length > most ? `${most} of the ${rows.length} selected trials are drawn.` : "",
    isThinned ? `At most ${D.mostEpochs} epochs of a curve are drawn.` : "",
  ]
    .join(" ")
    .trim();
  chips();
  refresh(["losses", "scores", "parallel"]);
}
function toggle(rows) {
  if (!Array.isArray(rows)) return;
  const these = table.rows((_, data) => rows.includes(data)),
    isOn = rows.every(row => slotOf(row) !== undefined);
  if (isOn) these.deselect();
  else these.select();
}
function setShown() {
  const rows = table
    .rows({ search: "applied" })
    .data()
    .toArray()
    .sort((a, b) => a - b);
  const isSame = rows.length === shown.length && rows.every((row, i) => row === shown[i]);
  shown = rows;
  const bad = shown.filter(isDiverged).length,
    cut = shown.filter(isCut).length;
  $("shown").textContent =
    (shown.length < all.length
      ? `${shown.length.toLocaleString("en")} of ${plural(all.length, "trial")} shown`
      : `all ${plural(all.length, "trial")} shown`) +
    (bad ? `, ${bad} of them diverged` : "") +
    (cut ? `, ${cut} stopped by halving` : "");
  return !isSame;
}
function say() {
  const axis = metricAxis(shown),
    n = axis.nHeld ?? 0;
  const empty = shown.filter(row => value(row) === null && !isDiverged(row) && !isCut(row)).length;
  const noPlace = shown.filter(row => D.varied.some(name => place(name, row) === null)).length;
  const isMany = new Set(shown.filter(row => value(row) !== null).map(row => D.settings[row])).size > 150;
  $("each-note").textContent =
    (D.hasSeeds ? "A point is a setting's mean over its seeds" : "A point is a trial; there are no seeds to average over") +
    (isMany
      ? ". Lines join the means at each value, or the medians in twelve bins (dotted: the quartiles)."
      : (D.hasSeeds ? ", a bar its 95 % interval (Student t; none for one seed)." : ".") +
        " The line joins the means of the drawn points at each value.") +
    (shown.some(isDiverged)
      ? ` Crosses count trials that diverged${D.hasSeeds ? "; a hollow point is a setting with some of them" : ""}.`
      : "") +
    (shown.some(isCut) ? " Small grey circles: trials that halving stopped, at what they had reached." : "") +
    (n ? ` ${plural(n, "trial")} far on the worse side: drawn as triangles at the edge.` : "") +
    (empty ? ` ${plural(empty, "trial")} without a value: not drawn.` : "") +
    (noPlace ? ` ${plural(noPlace, "trial")} without a hyperparameter: not drawn against it.` : "");
}
const fill = (select, names, labels = names) =>
  select.replaceChildren(...names.map((name, i) => new Option(labels[i], name)));

fill(
  $("metric"),
  D.metrics.map(m => m.name),
  D.metrics.map(m => `${m.label} (${m.isHigh ? "higher" : "lower"} is better)`),
);
fill($("score"), scoreNames, scoreNames.map(words));
if (scoreNames.includes(metric.name)) $("score").value = metric.name;
for (const id of ["across", "up"]) fill($(id), D.varied);
const ranked = [...D.importance.bars.map(b => b.name).filter(n => D.varied.includes(n)), ...D.varied];
$("across").value = ranked[0];
$("up").value = [...new Set(ranked)][1] ?? ranked[0];
$("matter-words").textContent = D.importance.words;
$("matter-note").textContent = D.importance.bars.length
  ? `For ${words(D.metric)}, over all trials, filtered or not. Whiskers: the smallest and the largest of five folds.`
  : "";
const hide = (ids, isHidden) => {
  if (isHidden)
    for (const id of ids) {
      $(id).hidden = true;
      for (const key of pictures.keys()) if ($(id).contains($(key)) || id === key) pictures.delete(key);
    }
};
hide(["matter"], !D.importance.bars.length);
hide(["map-section"], D.varied.length < 2);
hide(["parallel-section"], !D.varied.length);
hide(["score-side"], !scoreNames.length);
hide(["losses"], !lossNames.length);
$("matter-section").classList.toggle("wide", $("map-section").hidden);
$("losses").closest(".pair").classList.toggle("single", !scoreNames.length);
if (!D.varied.length) $("each").closest("section").hidden = true;

$("metric").onchange = () => {
  metric = D.metrics.find(m => m.name === $("metric").value);
  chips();
  say();
  refresh();
};
$("score").onchange = () => refresh(["scores"]);
for (const id of ["across", "up", "cell"]) $(id).onchange = () => refresh(["map"]);
table.on("select deselect", choose);
table.on("draw", () => {
  if (setShown()) {
    say();
    refresh();
  }
});
table.rows((_, row) => D.chosen.includes(row)).select();
setShown();
say();
const restyle = () => {
  chips();
  refresh();
};
new MutationObserver(restyle).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
matchMedia("(max-width: 800px)").addEventListener("change", restyle);
for (const id of pictures.keys()) watcher.observe($(id));
await new Promise(requestAnimationFrame); // show the table before the larger half of the script is read
const script = document.createElement("script");
script.textContent = await unpack("plotly");
document.head.append(script);
Plotly = window.Plotly;
refresh();
document.documentElement.dataset.ready = "yes";
