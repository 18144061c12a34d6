"""The report of a sweep: one HTML file that opens without a network, and static pictures of the same. Extra `sweep`.

Python hands numbers over, counts and grows the forest; the browser groups and draws, since it must again whenever the
reader filters trials or asks for another metric. Its scripts are packed with the page: nothing is fetched, and the
page's own security policy forbids it.
"""

import base64
import gzip
import html
import importlib.resources
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from jaxmlp.files import check_place, to_json, write_whole
from jaxmlp.sweep._importance import count, importance, is_better_high, needs, settings, varied
from jaxmlp.sweep._pictures import PICTURES, best, label, scale, student_t

if TYPE_CHECKING:
    import polars as pl

    from jaxmlp.sweep.results import Results

__all__ = ["write_pictures", "write_report"]

_METRICS = ("test_accuracy", "test_r2", "test_loss", "train_loss")
_CHOSEN = 5  # trials whose curves are drawn at first
_MOST_EPOCHS = 200  # of a curve: a screen shows no more
_DIGITS = 4


def write_report(results: "Results", path: str | Path) -> None:
    """Write an interactive report of a sweep as one HTML file of some 2.5 MB that needs nothing else.

    A table of all trials to sort and to filter, which filters every picture too; learning curves of chosen trials; the
    metric against every hyperparameter, seeds taken together as means with 95 % intervals of Student's t; a heat map of
    two hyperparameters; parallel coordinates; and which hyperparameters matter, by permutation importance of a random
    forest beside how well that forest predicts. Trials that diverged are drawn as crosses and counted, never dropped.
    Curves of more than 200 epochs are thinned to 200; numbers in them have four digits.

    Parameters
    ----------
    results
        Of a sweep, at least one trial.
    path
        The file to write or to replace.

    Raises
    ------
    ValueError
        If there are no trials, or something else than a file is in the file's place.
    ImportError
        If a package of the extra `sweep` is missing.

    Examples
    --------
    >>> import polars as pl, tempfile
    >>> from types import SimpleNamespace
    >>> table = pl.DataFrame({"trial": [0], "learning_rate": [0.1], "test_loss": [0.5], "status": ["ok"]})
    >>> curve = pl.DataFrame({"epoch": [1, 2], "test_loss": [0.9, 0.5]})
    >>> results = SimpleNamespace(table=lambda: table, curves=lambda trial: curve, title="digits")
    >>> results.names, results.metric = ("learning_rate",), "test_loss"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(results, f"{folder}/report.html")
    ...     Path(folder, "report.html").read_text()[:15]
    '<!DOCTYPE html>'
    """
    path = Path(path)
    table = _checked(results)
    check_place(path)
    write_whole(path, _page(results, table).encode("utf-8", "replace"))


def write_pictures(results: "Results", folder: str | Path) -> list[Path]:
    """Draw a sweep as PNG files, into a folder that is made if it is not there.

    `hyperparameters`, `learning_curves`, `parallel_coordinates`, `importance` and `heat_map`: those that have
    something to show. The heat map is of the two hyperparameters that matter most.

    Returns
    -------
    paths
        Of the files written.

    Raises
    ------
    ValueError
        If there are no trials.
    ImportError
        If a package of the extra `sweep` is missing.
    """
    folder = Path(folder)
    table = _checked(results)
    matter = importance(table, results.names, results.metric)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in PICTURES.items():
        if picture := draw(results, table, matter):
            paths.append(folder / f"{name}.png")
            write_whole(paths[-1], picture)
    return paths


def _checked(results: "Results") -> "pl.DataFrame":
    table = results.table()
    if not table.height:
        raise ValueError("results must hold at least one trial, got none")
    if results.metric not in table.columns:  # no trial has it
        table = table.with_columns(needs("polars").lit(None, needs("polars").Float64).alias(results.metric))
    return table


def _page(results: "Results", table: "pl.DataFrame") -> str:
    tables = importlib.resources.files(needs("itables")) / "html"  # DataTables and its extensions, in one module
    return Template(_PAGE).substitute(
        title=html.escape(results.title),
        facts=html.escape(_facts(results, table)),
        style=(tables / "dt_bundle.css").read_text("utf-8") + _STYLE,
        data=_packed(to_json(_data(results, table))),
        tables=_packed((tables / "dt_bundle.js").read_text("utf-8")),
        plotly=_packed(needs("plotly.offline").get_plotlyjs()),
        script=_SCRIPT,
    )


def _packed(text: str) -> str:
    """Return text as base64 of gzip: less than half as long, and no text of a user's can end the element it is in."""
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)).decode()


def _facts(results: "Results", table: "pl.DataFrame") -> str:
    """Say how many trials there are, how they ended, what the best one reached, and what did not vary."""
    status = table["status"].to_list()
    ends = ", ".join(f"{status.count(end)} {end}" for end in sorted(set(status), key=lambda end: end != "ok"))
    row = best(table, results.metric, 1)[0]
    value = table[results.metric][row]
    facts = f"{count(table.height, 'trial')}: {ends}."
    if value is None or not math.isfinite(value):
        facts += f" None has a finite {label(results.metric)}."
    else:
        facts += f" Best {label(results.metric)}: {value:.4g}, of trial {table['trial'][row]}"
        if table.height > 1 and results.metric.startswith("test"):
            facts += f"; it flatters, being the best of {table.height:,} on the same test set"
        facts += "."
    held = [name for name in results.names if table[name].n_unique() == 1]
    if table.height > 1 and held:
        facts += " The same in all trials: " + ", ".join(f"{name} = {table[name][0]}" for name in held) + "."
    return facts


def _data(results: "Results", table: "pl.DataFrame") -> dict[str, Any]:
    metrics = [results.metric, *(name for name in _METRICS if name != results.metric)]
    metrics = [name for name in metrics if name in table.columns and (name == results.metric or _has(table[name]))]
    others = [name for name in ("epochs", "seconds") if name in table.columns]
    numbers = settings(table, results.names)
    matter = importance(table, results.names, results.metric)
    most = max(map(numbers.count, set(numbers)))
    return {
        "metric": results.metric,
        "metrics": [{"name": name, "label": label(name), "isHigh": is_better_high(name)} for name in metrics],
        "names": results.names,
        "varied": varied(table, results.names),
        "others": others,
        "columns": {name: table[name].to_list() for name in ["trial", *results.names, *metrics, *others, "status"]},
        "scales": {name: scale(table[name].to_list())._asdict() for name in results.names},
        "settings": numbers,
        "hasSeeds": "seed" in results.names,
        "t": [None, None, *(student_t(n) for n in range(2, most + 1))],
        "chosen": best(table, results.metric, _CHOSEN),
        "importance": {**matter._asdict(), "bars": [bar._asdict() for bar in matter.bars]},
        "curves": [_thinned(results.curves(trial)) for trial in table["trial"].to_list()],
        "mostEpochs": _MOST_EPOCHS,
    }


def _has(values: Iterable[Any]) -> bool:
    return any(value is not None for value in values)


def _thinned(curves: "pl.DataFrame") -> dict[str, Any]:
    """Return the columns that hold numbers, without epochs that a screen has no room for; the last always stays."""
    height = curves.height
    rows: Sequence[int] = range(height)
    if height > _MOST_EPOCHS:
        rows = [round(place * (height - 1) / (_MOST_EPOCHS - 1)) for place in range(_MOST_EPOCHS)]
    columns = {name: curves[name].to_list() for name in curves.columns if curves[name].dtype.is_numeric()}
    return {name: [_short(c[row]) for row in rows] for name, c in columns.items() if _has(c)}


def _short(value: float | None) -> float | None:
    if value is None or isinstance(value, int) or not math.isfinite(value):
        return value
    return float(f"{value:.{_DIGITS}g}")


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' blob:; \
style-src 'unsafe-inline'; img-src data: blob:; font-src data:">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$title</h1>
<p>$facts</p>
</header>
<noscript>
<p>The table and the pictures of this report are drawn by JavaScript, which is switched off here.</p>
</noscript>
<nav>
<label>Metric <select id="metric"></select></label>
<span id="shown" role="status"></span>
</nav>
<main>
<section class="wide"><h2>Trials</h2>
<p>Choose rows to draw their learning curves. What you search for or filter by here filters the pictures below, too.</p>
<table id="trials" class="display compact nowrap"></table></section>
<section class="wide"><h2>Learning curves</h2>
<div id="chips"></div>
<div class="pair"><div><div id="losses" class="picture"></div></div>
<div id="score-side"><label class="over">Draw <select id="score"></select></label>
<div id="scores" class="picture"></div></div></div>
<p class="note" id="curves-note"></p></section>
<section class="wide"><h2>Each hyperparameter</h2>
<p id="each-note"></p><div id="each" class="grid"></div></section>
<section id="map-section"><h2>Two hyperparameters</h2>
<div class="over"><label>Across <select id="across"></select></label> <label>up <select id="up"></select></label>
<label>cell <select id="cell">
<option value="mean">mean</option><option value="best">best</option></select></label></div>
<div id="map" class="picture"></div><p class="note" id="map-note"></p></section>
<section id="matter-section"><h2>Which hyperparameters matter</h2>
<p id="matter-words"></p><div id="matter" class="picture"></div><p class="note" id="matter-note"></p></section>
<section class="wide" id="parallel-section"><h2>All hyperparameters at once</h2>
<div id="parallel" class="picture"></div><p class="note" id="parallel-note"></p></section>
</main>
<script type="text/plain" id="data">$data</script>
<script type="text/plain" id="tables">$tables</script>
<script type="text/plain" id="plotly">$plotly</script>
<script type="module">$script</script>
</body>
</html>
"""

_STYLE = r"""
:root {
  --page: #f6f7f9; --card: #fff; --text: #1c2430; --quiet: #5d6878; --line: #e2e6ec; --accent: #2563a8; --bad: #c2410c;
}
html.dark {
  --page: #14171c; --card: #1c2027; --text: #e4e8ee; --quiet: #9aa5b4; --line: #323944;
  --accent: #7fb2ea; --bad: #fb8b4b;
}
* { box-sizing: border-box; }
html { scroll-padding-top: 64px; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
header, main, body > nav, noscript { display: block; max-width: 1320px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 28px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 6px; font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 8px; font-weight: 650; }
p { margin: 0 0 12px; max-width: 85ch; color: var(--quiet); overflow-wrap: anywhere; }
p:empty { display: none; }
.note { font-size: 13px; margin: 8px 0 0; }
body > nav {
  position: sticky; top: 0; z-index: 20; display: flex; gap: 6px 20px; align-items: center; flex-wrap: wrap;
  padding-top: 10px; padding-bottom: 10px; background: var(--page);
}
#shown { color: var(--quiet); font-size: 14px; }
select, input, button { font: inherit; color: inherit; max-width: 100%; }
body > nav select, .over select {
  background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 3px 6px; max-width: 70vw;
}
label { color: var(--quiet); font-size: 14px; }
main { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 18px; padding-bottom: 48px; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; min-width: 0;
}
.wide { grid-column: 1 / -1; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 20px; align-items: end; }
.pair.single { grid-template-columns: minmax(0, 1fr); }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(360px, 100%), 1fr)); gap: 20px; }
.grid > div { min-width: 0; }
.picture { min-height: 300px; }
#matter { min-height: 0; }
.picture .modebar--hover { opacity: 0; transition: opacity 0.2s; }
.picture:hover .modebar--hover { opacity: 1; }
#map { min-height: 420px; }
#parallel { min-height: 440px; }
.over { display: flex; gap: 6px 14px; flex-wrap: wrap; align-items: center; }
#chips { display: flex; flex-wrap: wrap; gap: 6px; margin-bottom: 12px; }
#chips button {
  display: flex; gap: 8px; align-items: center; border: 1px solid var(--line); border-radius: 99px; background: none;
  padding: 2px 9px; font-size: 12px; cursor: pointer; max-width: 100%;
}
#chips button:hover { border-color: var(--accent); }
#chips i { flex: none; width: 14px; height: 4px; border-radius: 2px; }
#chips span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
div.dt-container { font-size: 14px; }
div.dt-container .dt-layout-table { overflow-x: auto; }
div.dt-container .dt-layout-row { margin: 8px 0; }
div.dt-container .dt-input {
  background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 4px 8px;
}
table.dataTable { font-variant-numeric: tabular-nums; }
table.dataTable > thead > tr > th { font-weight: 600; border-bottom: 1px solid var(--line); }
table.dataTable tbody tr { cursor: pointer; }
table.dataTable tbody td { max-width: 260px; overflow: hidden; text-overflow: ellipsis; }
table.dataTable tbody tr.selected > td:first-child { border-left: 5px solid var(--swatch, transparent); }
table.dataTable tbody td:first-child { border-left: 5px solid transparent; }
table.dataTable > tbody > tr.selected > * {
  box-shadow: inset 0 0 0 9999px color-mix(in srgb, var(--accent) 12%, transparent) !important;
  color: inherit !important;
}
div.dt-container table.dataTable tr > .dt-left { padding-left: 22px; }
html.dark div.dt-container, html.dark div.dt-container > * { background: none; }
td.diverged { color: var(--bad) !important; }
@media (max-width: 800px) {
  header, main, body > nav, noscript { padding-left: 12px; padding-right: 12px; }
  header { padding-top: 18px; }
  h1 { font-size: 22px; }
  main, .pair { grid-template-columns: minmax(0, 1fr); }
  section { padding: 14px 12px; }
}
"""

_SCRIPT = r"""
const $ = id => document.getElementById(id);
const unpack = async id => {
  const text = atob($(id).textContent),
    bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
// Everything with a name of the user's in it goes through here before a library takes it for markup.
const escape = text => String(text).replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);
const D = JSON.parse(await unpack("data")),
  all = D.settings.map((_, row) => row);
const short = (v, digits = 4) =>
  v === null ? "–" : typeof v === "number" ? String(+v.toPrecision(digits)) : String(v);
const plural = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
const words = name => name.replace("_r2", "_R²").replaceAll("_", " ");
let metric = D.metrics[0],
  shown = all,
  chosen = [];

// ---- colours ----
const colors = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6bb1", "#7f7f7f"];
const dashes = ["solid", "dash", "dot"];
const ramp = ["#e3d94a", "#a5d43f", "#5ec962", "#21a585", "#26828e", "#33638d", "#3f4788", "#481f70", "#440154"];
const rampNow = () => (isDark() ? ramp.toReversed() : ramp); // best stands out from the page
const isDark = () => document.documentElement.classList.contains("dark");
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const slotOf = row => chosen.find(c => c.row === row)?.slot;
const lineOf = slot => ({ color: colors[slot % 8], dash: dashes[Math.floor(slot / 8) % 3] });
function colorOf(row) {
  return slotOf(row) === undefined ? "transparent" : lineOf(slotOf(row)).color;
}
const colorscale = () => {
  const scale = metric.isHigh ? rampNow() : rampNow().toReversed();
  return scale.map((color, i) => [i / (ramp.length - 1), color]);
};

// ---- trials ----
const { default: DataTable, set_or_remove_dark_class: followTheme } = await (async () => {
  const url = URL.createObjectURL(new Blob([await unpack("tables")], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
})();
followTheme();
const compare = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : +(a !== b);
const nullsLast = sign => (a, b) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b));
DataTable.type("value", { order: { pre: v => v, asc: nullsLast(1), desc: nullsLast(-1) } });
DataTable.type("value", "className", "");
const tableColumns = ["trial", ...D.names, ...D.metrics.map(m => m.name), ...D.others, "status"];
const cell = name => (row, kind) => {
  const value = D.columns[name][row];
  if (kind === "sort" || kind === "type")
    return D.scales[name]?.kind === "category" && value !== null ? D.scales[name].values.indexOf(value) : value;
  return kind === "display" ? escape(short(value, 5)) : value === null ? "" : String(value);
};
const isNumeric = name => D.columns[name].every(v => v === null || typeof v === "number");
$("trials")
  .createTHead()
  .insertRow()
  .append(
    ...["", ...tableColumns].map(name =>
      Object.assign(document.createElement("th"), {
        scope: "col",
        textContent: D.names.includes(name) ? name : words(name),
      }),
    ),
  );
const table = new DataTable("#trials", {
  data: all,
  deferRender: true,
  autoWidth: false,
  pageLength: 10,
  lengthMenu: [10, 25, 100],
  order: [[tableColumns.indexOf(metric.name) + 1, metric.isHigh ? "desc" : "asc"]],
  select: { style: "multi", selector: "td", info: false, headerCheckbox: false },
  columns: [
    {
      data: row => row,
      orderable: false,
      searchable: false,
      render: DataTable.render.select(),
      className: "dt-select",
    },
    ...tableColumns.map(name => ({
      data: cell(name),
      type: "value",
      className: isNumeric(name) ? "dt-right" : "dt-left",
      columnControl: [[isNumeric(name) ? "searchNumber" : "searchText"]],
      createdCell: (td, _, row) => {
        if (name === "status" && D.columns.status[row] === "diverged") td.className += " diverged";
      },
    })),
  ],
  layout: { topStart: "search", topEnd: null, bottomStart: ["info", "pageLength"], bottomEnd: "paging" },
  language: {
    search: "",
    searchPlaceholder: "Search all columns",
    info: "_START_ to _END_ of _TOTAL_",
    infoFiltered: "(of _MAX_)",
    infoEmpty: "no trial",
    zeroRecords: "No trial is like that",
    lengthMenu: "_MENU_ a page",
  },
  createdRow: (tr, row) => {
    tr.dataset.row = row;
    tr.style.setProperty("--swatch", colorOf(row));
  },
});

// ---- numbers ----
const value = row => {
  const v = D.columns[metric.name][row];
  return v !== null && D.columns.status[row] !== "diverged" ? v : null;
};
const isDiverged = row => D.columns.status[row] === "diverged";
const mean = v => v.reduce((a, b) => a + b, 0) / v.length;
const interval = v => {
  if (v.length < 2) return null;
  const m = mean(v);
  return D.t[v.length] * Math.sqrt(v.reduce((a, b) => a + (b - m) ** 2, 0) / (v.length - 1) / v.length);
};
const groupBy = (rows, key) => {
  const groups = new Map();
  for (const row of rows) {
    const k = key(row);
    if (!groups.has(k)) groups.set(k, []);
    groups.get(k).push(row);
  }
  return groups;
};
// Where a trial is on a hyperparameter's axis; null if it has no place there.
const place = (name, row) => {
  const v = D.columns[name][row],
    { kind, values } = D.scales[name];
  return kind === "category" ? values.indexOf(v) : v === null ? null : kind === "log" ? Math.log10(v) : v;
};
const extent = v => [v.reduce((a, b) => Math.min(a, b), Infinity), v.reduce((a, b) => Math.max(a, b), -Infinity)];
const spanOf = name => {
  const [low, high] = extent(all.map(row => place(name, row)).filter(v => v !== null));
  return high > low ? [low, high] : [low - 0.5, high + 0.5];
};
const round = (low, high) => {
  const rough = (high - low) / 5,
    unit = 10 ** Math.floor(Math.log10(rough)),
    step = unit * [1, 2, 5, 10].find(s => s * unit >= rough);
  return range(Math.ceil(low / step), Math.floor(high / step)).map(i => i * step);
};
// What is left if nothing may be closer than that to the one before.
const apart = (marks, gap, at) => {
  const kept = [];
  for (const mark of marks.toSorted((a, b) => at(a) - at(b)))
    if (!kept.length || at(mark) - at(kept.at(-1)) > gap) kept.push(mark);
  return kept;
};
// Ticks at the values if they are few, else at round numbers; none that would touch the one before.
const ticks = (name, most) => {
  const { kind, values } = D.scales[name],
    [low, high] = spanOf(name);
  let marks;
  if (values) marks = values.map((v, i) => [kind === "category" ? i : kind === "log" ? Math.log10(v) : v, short(v)]);
  else if (kind === "log")
    marks = range(Math.floor(low), Math.ceil(high)).flatMap(e =>
      (high - low < 2 ? [1, 2, 5] : [1]).map(d => [e + Math.log10(d), short(d * 10 ** e)]),
    );
  else marks = round(low, high).map(v => [v, short(v)]);
  marks = marks.filter(([at]) => at >= low - 1e-9 && at <= high + 1e-9);
  const kept = apart(marks, (high - low) / most, m => m[0]);
  return {
    tickvals: kept.map(m => m[0]),
    ticktext: kept.map(m => escape(m[1].length > 16 ? m[1].slice(0, 15) + "…" : m[1])),
  };
};
const range = (from, to) => Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);
// The metric's axis: logarithmic for losses that differ much; far outliers on the bad side are held at its end.
const metricAxis = rows => {
  const values = rows.map(value).filter(v => v !== null),
    [low, high] = extent(values);
  if (!values.length) return { isLog: false, range: [0, 1], at: v => v };
  const isLog = !metric.isHigh && low > 0 && high > 20 * low,
    at = v => (isLog ? Math.log10(v) : v);
  const s = values.map(at).sort((a, b) => a - b),
    q = p => s[Math.round(p * (s.length - 1))];
  const fence = 3 * (q(0.75) - q(0.25));
  let [a, b] = [s[0], s.at(-1)];
  if (fence > 0 && metric.isHigh) a = s.find(v => v >= q(0.25) - fence);
  if (fence > 0 && !metric.isHigh) b = s.findLast(v => v <= q(0.75) + fence);
  const pad = (b - a) * 0.06 || Math.abs(b) * 0.05 || 0.5;
  return {
    isLog,
    range: [a - pad, b + pad],
    at,
    hold: v => (metric.isHigh ? Math.max(at(v), a - pad / 2) : Math.min(at(v), b + pad / 2)),
    nHeld: s.filter(v => v < a || v > b).length,
  };
};
const about = row =>
  D.varied
    .concat(D.hasSeeds ? ["seed"] : [])
    .map(name => `${escape(name)} = ${escape(short(D.columns[name][row]))}`)
    .join("<br>");

// ---- drawing ----
const layout = more => {
  const axis = {
    gridcolor: css("--line"),
    linecolor: css("--line"),
    zeroline: false,
    automargin: true,
    fixedrange: isNarrow(),
  };
  const { xaxis, yaxis, ...rest } = more;
  return {
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--quiet") },
    hovermode: "closest",
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: false,
    modebar: { bgcolor: css("--card"), color: css("--quiet"), activecolor: css("--accent") },
    margin: { l: 52, r: 12, t: 12, b: 44 },
    hoverlabel: {
      bgcolor: css("--card"),
      bordercolor: css("--line"),
      font: { color: css("--text"), size: 12 },
      align: "left",
    },
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
    ...rest,
  };
};
const isNarrow = () => matchMedia("(max-width: 800px)").matches;
const title = text => ({ text: escape(text.length > 40 ? text.slice(0, 39) + "…" : text), font: { size: 12 } });
const plot = (id, traces, more) => {
  const div = typeof id === "string" ? $(id) : id,
    isNew = !div.data;
  return Plotly.react(div, traces, layout(more), {
    responsive: true,
    displaylogo: false,
    displayModeBar: !isNarrow() && matchMedia("(hover: hover)").matches ? "hover" : false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  }).then(() => {
    // A point stands for trials: pressing it chooses them.
    if (isNew) div.on("plotly_click", e => toggle(e.points[0]?.customdata));
  });
};
const hover = { hoverinfo: "text" };
const diverged = n => `${n} diverged`;
const cross = size => ({ symbol: "x-thin", size, line: { width: 2, color: css("--bad") }, color: css("--bad") });

function drawCurves(id, names) {
  const traces = [];
  for (const { row, slot } of chosen)
    for (const [i, name] of names.entries()) {
      const curve = D.curves[row],
        y = curve[name];
      if (!y) continue;
      const number = D.columns.trial[row],
        what = escape(words(name));
      const text = y.map((v, k) => `trial ${number}, epoch ${curve.epoch[k]}<br>${what} ${short(v)}<br>${about(row)}`);
      const line = { ...lineOf(slot), width: i ? 1 : 2, ...(i ? { dash: "dot" } : {}) };
      traces.push({
        x: curve.epoch,
        y,
        text,
        name,
        mode: y.length < 15 ? "lines+markers" : "lines",
        line,
        marker: { size: 5 },
        ...hover,
      });
      const last = y.findLastIndex(v => v !== null);
      if (isDiverged(row) && last >= 0)
        traces.push({
          x: [curve.epoch[last]],
          y: [y[last]],
          text: [text[last] + "<br>diverged"],
          mode: "markers",
          marker: cross(10),
          ...hover,
        });
    }
  const values = traces.flatMap(t => t.y).filter(v => v !== null),
    [low, high] = extent(values);
  const isLog =
    (names[0].includes("loss") && low > 0 && high > 5 * low) ||
    (names[0] === "learning_rate" && low > 0 && high > 20 * low);
  const nothing = values.length
    ? []
    : [
        {
          text: chosen.length ? "no finite number" : "choose trials in the table",
          showarrow: false,
          xref: "paper",
          yref: "paper",
          x: 0.5,
          y: 0.5,
        },
      ];
  const what = names.length > 1 ? "loss: test (line), training (dotted)" : words(names[0]);
  plot(id, traces, {
    xaxis: { title: title("epoch"), ...(extent(traces.flatMap(t => t.x))[1] < 9 ? { dtick: 1 } : {}) },
    yaxis: { title: title(what), type: isLog ? "log" : "linear", ...(isLog ? logTicks(low, high) : {}) },
    annotations: nothing,
  });
}
const logTicks = (low, high) => {
  const digits = high > 1000 * low ? [1] : [1, 2, 5],
    all = range(Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))),
    step = Math.ceil(all.length / 8);
  const tickvals = all.filter(e => e % step === 0).flatMap(e => digits.map(d => d * 10 ** e));
  return { tickvals, ticktext: tickvals.map(v => short(v)) };
};
const lossNames = ["test_loss", "train_loss"].filter(name => D.curves.some(c => c[name]));
const scoreNames = [...new Set(D.curves.flatMap(Object.keys))].filter(
  name => name !== "epoch" && !lossNames.includes(name),
);

function drawEach(name) {
  const groups = [
    ...groupBy(
      shown.filter(row => place(name, row) !== null),
      row => D.settings[row],
    ).values(),
  ].map(rows => ({
    rows,
    x: place(name, rows[0]),
    values: rows.map(value).filter(v => v !== null),
    bad: rows.filter(isDiverged).length,
  }));
  const axis = metricAxis(shown),
    [low, high] = spanOf(name),
    { values } = D.scales[name];
  const full = groups.filter(g => g.values.length).map(g => ({ ...g, mean: mean(g.values), half: interval(g.values) }));
  const stacks = groupBy(full, g => g.x),
    steps = [...stacks.keys()].sort((a, b) => a - b);
  const gap = values ? steps.slice(1).reduce((least, x, i) => Math.min(least, x - steps[i]), (high - low) / 2) : 0;
  // Settings that share a value stand side by side, best and worst apart.
  for (const stack of stacks.values())
    stack
      .sort((a, b) => a.mean - b.mean)
      .forEach((g, k) => {
        g.at = g.x + (stack.length > 1 ? (k / (stack.length - 1) - 0.5) * gap * 0.6 : 0);
      });
  const accent = css("--accent"),
    ends = full.map(g => (g.half === null ? [g.mean, g.mean] : [g.mean - g.half, g.mean + g.half]));
  const y = full.map(g => axis.hold(g.mean)),
    safe = v => (axis.isLog && v <= 0 ? axis.range[0] - 9 : axis.at(v));
  const text = full.map(
    g =>
      `${about(g.rows[0]).replace(/<br>seed = .*/, "")}<br>mean ${short(g.mean)}` +
      (g.half === null ? "" : ` ± ${short(g.half, 2)}`) +
      ` of ${plural(g.values.length, "trial")}` +
      (g.bad ? `, ${diverged(g.bad)}` : ""),
  );
  const traces = [
    {
      x: full.map(g => g.at),
      y,
      text,
      customdata: full.map(g => g.rows),
      mode: "markers",
      ...hover,
      marker: {
        color: accent,
        opacity: full.length > 100 ? 0.55 : 0.85,
        size: full.length > 100 ? 5 : 7,
        symbol: full.map((g, i) =>
          y[i] !== axis.at(g.mean)
            ? metric.isHigh
              ? "triangle-down"
              : "triangle-up"
            : g.bad
              ? "circle-open"
              : "circle",
        ),
      },
      error_y: {
        type: "data",
        symmetric: false,
        array: ends.map((e, i) => Math.max(0, safe(e[1]) - y[i])),
        arrayminus: ends.map((e, i) => Math.max(0, y[i] - safe(e[0]))),
        color: accent,
        thickness: full.length > 60 ? 0.5 : 1,
        width: 0,
      },
    },
  ];
  if (values && steps.length > 1 && full.length > steps.length) {
    const m = steps.map(x => mean(stacks.get(x).map(g => axis.hold(g.mean))));
    traces.push({
      x: steps,
      y: m,
      mode: "lines+markers",
      line: { color: css("--text"), width: 1.5 },
      marker: { symbol: "line-ew", size: 14, line: { width: 2, color: css("--text") } },
      text: steps.map(
        (x, i) => `mean of ${plural(stacks.get(x).length, "point")}: ${short(axis.isLog ? 10 ** m[i] : m[i])}`,
      ),
      ...hover,
    });
  }
  const lost = [
    ...groupBy(
      groups.filter(g => g.bad),
      g => g.x,
    ),
  ];
  const nOf = (x, key) => groups.filter(g => g.x === x).reduce((n, g) => n + key(g), 0);
  const roomy = apart(
    lost.map(l => l[0]),
    (high - low) / 7,
    x => x,
  );
  if (lost.length)
    traces.push({
      x: lost.map(l => l[0]),
      y: lost.map(() => 0),
      yaxis: "y2",
      mode: values ? "markers+text" : "markers",
      marker: cross(values ? 8 : 6),
      ...hover,
      customdata: lost.map(([, gs]) => gs.flatMap(g => g.rows.filter(isDiverged))),
      textposition: "bottom center",
      textfont: { color: css("--bad"), size: 10 },
      text: lost.map(([x]) => (roomy.includes(x) ? `${nOf(x, g => g.bad)}/${nOf(x, g => g.rows.length)}` : "")),
      hovertext: lost.map(
        ([x]) =>
          `${nOf(x, g => g.bad)} of ${plural(
            nOf(x, g => g.rows.length),
            "trial",
          )} diverged`,
      ),
    });
  const marks = ticks(name, 7),
    pad = Math.max((high - low) * 0.05, gap * 0.4);
  plot($("each").children[D.varied.indexOf(name)], traces, {
    margin: { l: 56, r: 12, t: 10, b: 46 },
    xaxis: {
      title: title(name),
      range: [low - pad, high + pad],
      ...marks,
      ...(marks.ticktext.join("").length > 36 ? { tickangle: -30 } : {}),
      anchor: lost.length ? "y2" : "y",
    },
    yaxis: { ...metricTicks(axis), domain: [lost.length ? 0.2 : 0, 1], title: title(metric.label) },
    yaxis2: {
      domain: [0, 0.16],
      range: [-1.4, 0.8],
      fixedrange: true,
      showgrid: false,
      zeroline: false,
      tickvals: [0],
      ticktext: ["diverged"],
      tickfont: { color: css("--bad"), size: 10 },
      visible: lost.length > 0,
    },
  });
}
// Places on the metric's axis are logarithms already where it is logarithmic: so are its ticks.
const metricTicks = axis => {
  if (!axis.isLog) return { range: axis.range };
  const [low, high] = axis.range,
    digits = high - low < 0.8 ? [1, 1.5, 2, 3, 4, 5, 7] : high - low < 2 ? [1, 2, 5] : [1];
  const marks = range(Math.floor(low), Math.ceil(high))
    .flatMap(e => digits.map(d => d * 10 ** e))
    .filter(v => Math.log10(v) >= low && Math.log10(v) <= high);
  return { range: axis.range, tickvals: marks.map(Math.log10), ticktext: marks.map(v => short(v)) };
};

const cells = name => {
  const { kind, values } = D.scales[name];
  if (values) return { labels: values.map(v => short(v)), of: row => values.indexOf(D.columns[name][row]) };
  const [low, high] = spanOf(name),
    n = 8,
    edge = i => {
      const u = low + ((high - low) * i) / n;
      return short(kind === "log" ? 10 ** u : u, 2);
    };
  return {
    labels: range(0, n - 1).map(i => `${edge(i)} – ${edge(i + 1)}`),
    of: row => {
      const u = place(name, row);
      return u === null ? -1 : Math.min(n - 1, Math.floor(((u - low) / (high - low)) * n));
    },
  };
};
function drawMap() {
  const [x, y] = [$("across").value, $("up").value].map(name => ({ name, ...cells(name) }));
  const axis = metricAxis(shown),
    pick = $("cell").value;
  const grid = groupBy(
    shown.filter(row => x.of(row) >= 0 && y.of(row) >= 0),
    row => y.of(row) * x.labels.length + x.of(row),
  );
  const z = y.labels.map(() => x.labels.map(() => null)),
    lost = z.map(r => r.slice()),
    text = z.map(r => r.slice()),
    inside = [],
    marks = [];
  const isSlanted = x.labels.join("").length > (isNarrow() ? 24 : 56);
  const isRoomy = x.labels.length <= (isNarrow() ? 5 : 10) && y.labels.length <= 14;
  for (const [k, rows] of grid) {
    const i = Math.floor(k / x.labels.length),
      j = k % x.labels.length,
      values = rows.map(value).filter(v => v !== null),
      bad = rows.filter(isDiverged).length;
    const at = values.length ? (pick === "mean" ? mean(values) : extent(values)[+metric.isHigh]) : null;
    const name = `${escape(x.name)} = ${escape(x.labels[j])}<br>${escape(y.name)} = ${escape(y.labels[i])}`;
    text[i][j] =
      `${name}<br>` +
      (values.length
        ? `mean ${short(mean(values))}, best ${short(extent(values)[+metric.isHigh])} of ${values.length}`
        : "no value") +
      (bad ? `<br>${bad} of ${rows.length} diverged` : "");
    if (at !== null) z[i][j] = axis.at(at);
    else lost[i][j] = 1;
    if (bad) marks.push({ j, i, bad, of: rows.length, isAll: !values.length });
    if (at !== null && isRoomy)
      inside.push({
        x: j,
        y: i,
        text: short(at, 3) + (bad ? `<br>✕ ${bad}/${rows.length}` : ""),
        showarrow: false,
        font: { size: 11, color: ink(axis, axis.at(at)) },
      });
    else if (bad && isRoomy)
      inside.push({
        x: j,
        y: i,
        yshift: -13,
        text: `${bad}/${rows.length}`,
        showarrow: false,
        font: { size: 10, color: css("--bad") },
      });
  }
  const at = (name, labels) => ({
    tickvals: labels.map((_, i) => i),
    ticktext: labels.map(l => escape(l.length > 16 ? l.slice(0, 15) + "…" : l)),
    range: [-0.5, labels.length - 0.5],
    title: title(name),
    showgrid: false,
  });
  // Not the axis's own title: beside a horizontal colour bar that is drawn over the ticks.
  const below = {
    text: title(x.name).text,
    xref: "paper",
    yref: "paper",
    x: 0.5,
    y: 0,
    yanchor: "top",
    yshift: isSlanted ? -78 : -24,
    showarrow: false,
  };
  const few = { hoverongaps: false, xgap: 2, ygap: 2, text, hoverinfo: "text" },
    bar = metricTicks(axis),
    crosses = marks.filter(m => m.isAll || !isRoomy);
  plot(
    "map",
    [
      {
        type: "heatmap",
        z: lost,
        colorscale: [
          [0, css("--line")],
          [1, css("--line")],
        ],
        showscale: false,
        ...few,
      },
      {
        type: "heatmap",
        z,
        zmin: axis.range[0],
        zmax: axis.range[1],
        colorscale: colorscale(),
        ...few,
        colorbar: {
          orientation: "h",
          y: 1.02,
          yanchor: "bottom",
          thickness: 10,
          len: 1,
          outlinewidth: 0,
          tickvals: bar.tickvals,
          ticktext: bar.ticktext,
          title: { text: escape(`${pick} ${metric.label}`), side: "top", font: { size: 12 } },
        },
      },
      {
        x: crosses.map(m => m.j),
        y: crosses.map(m => m.i),
        mode: "markers",
        marker: cross(isRoomy ? 14 : 6),
        hoverinfo: "skip",
      },
    ],
    {
      margin: { l: 60, r: 12, t: 70, b: isSlanted ? 110 : 50 },
      xaxis: { ...at(x.name, x.labels), title: {}, tickangle: isSlanted ? -40 : 0 },
      yaxis: at(y.name, y.labels),
      annotations: [...inside, below],
    },
  );
  const n = marks.reduce((sum, m) => sum + m.bad, 0);
  $("map-note").textContent =
    `A cell is the ${pick} over everything else, seeds too, of the trials with a value.` +
    (n ? ` Grey with a cross: all diverged. ✕ 1/4: one of four diverged; the ${pick} is of the others.` : "");
}
const ink = (axis, at) => {
  // dark or light, whichever the cell's colour lets one read
  const scale = colorscale(),
    [low, high] = axis.range,
    t = Math.min(1, Math.max(0, (at - low) / (high - low)));
  return ramp.indexOf(scale[Math.round(t * (scale.length - 1))][1]) < 4 ? "#111" : "#fff";
};

function drawParallel() {
  const names = D.varied,
    axis = metricAxis(shown),
    [low, high] = axis.range,
    end = names.length,
    isUp = isNarrow();
  const at = (name, row) => {
    const u = place(name, row),
      [a, b] = spanOf(name);
    return u === null ? null : (u - a) / (b - a);
  };
  const score = row => {
    const t = (axis.hold(value(row)) - low) / (high - low);
    return metric.isHigh ? t : 1 - t;
  };
  const lines = [],
    points = { x: [], y: [], text: [], customdata: [] },
    flip = (x, y) => (isUp ? { x: y, y: x.map(v => end - v) } : { x, y });
  const trace = (rows, line) => {
    const x = [],
      y = [];
    for (const row of rows) {
      names.forEach((name, i) => {
        x.push(i);
        y.push(at(name, row));
      });
      x.push(end, end);
      y.push(value(row) === null ? -0.13 : score(row), null);
    }
    lines.push({ ...flip(x, y), mode: "lines", line, hoverinfo: "skip" });
  };
  const width = shown.length > 300 ? 0.7 : 1.3,
    finished = shown.filter(row => value(row) !== null);
  trace(
    shown.filter(row => value(row) === null),
    { color: css("--bad"), width, dash: "dot" },
  );
  const bins = groupBy(finished, row => Math.min(8, Math.floor(score(row) * 9))),
    scale = rampNow();
  for (const bin of [...bins.keys()].sort((a, b) => a - b)) trace(bins.get(bin), { color: scale[bin], width });
  for (const { row, slot } of chosen) if (shown.includes(row)) trace([row], { ...lineOf(slot), width: 3 });
  for (const row of shown) {
    points.x.push(names.length);
    points.y.push(value(row) === null ? -0.13 : score(row));
    points.customdata.push([row]);
    const end = value(row) === null ? D.columns.status[row] : `${metric.label} ${short(value(row))}`;
    points.text.push(`trial ${D.columns.trial[row]}: ${escape(end)}<br>${about(row)}`);
  }
  lines.push({
    ...flip(points.x, points.y),
    text: points.text,
    customdata: points.customdata,
    mode: "markers",
    marker: {
      size: 6,
      color: shown.map(row => (value(row) === null ? css("--bad") : scale[Math.min(8, Math.floor(score(row) * 9))])),
    },
    ...hover,
  });
  const shapes = range(0, end).map(i => {
    const p = flip([i, i], [0, 1]);
    return { type: "line", x0: p.x[0], x1: p.x[1], y0: p.y[0], y1: p.y[1], line: { color: css("--quiet"), width: 1 } };
  });
  const notes = [],
    note = (i, t, text, more) => {
      const p = flip([i], [t]);
      notes.push({ x: p.x[0], y: p.y[0], text, showarrow: false, font: { size: 11 }, ...more });
    };
  const tickLook = isUp
    ? { yshift: -10, bgcolor: css("--card"), borderpad: 0, opacity: 0.9 }
    : { xanchor: "right", xshift: -4, bgcolor: css("--card"), borderpad: 0, opacity: 0.9 };
  names.forEach((name, i) => {
    const [a, b] = spanOf(name),
      { tickvals, ticktext } = ticks(name, isUp ? 6 : 12);
    tickvals.forEach((v, k) => note(i, (v - a) / (b - a), ticktext[k], tickLook));
  });
  const bar = axis.isLog
    ? metricTicks(axis)
    : { tickvals: round(low, high), ticktext: round(low, high).map(v => short(v)) };
  bar.tickvals.forEach((v, k) => {
    const t = (v - low) / (high - low);
    note(end, metric.isHigh ? t : 1 - t, bar.ticktext[k], isUp ? tickLook : { xanchor: "left", xshift: 6 });
  });
  if (finished.length < shown.length)
    note(end, -0.13, "diverged", {
      font: { size: 11, color: css("--bad") },
      ...(isUp ? { yshift: 12 } : { xanchor: "left", xshift: 6 }),
    });
  [...names, metric.label].forEach((name, i) => {
    const text = `<b>${escape(name.length > 24 ? name.slice(0, 23) + "…" : name)}</b>`;
    note(
      i,
      1,
      text,
      isUp
        ? { xanchor: "right", yshift: 11, bgcolor: css("--card"), borderpad: 0 }
        : { yanchor: "bottom", yshift: 8, textangle: names.length > 8 ? -20 : 0 },
    );
  });
  const along = { range: [-0.3, end + 0.3], visible: false, fixedrange: true },
    across = { range: [-0.17, 1.02], visible: false, fixedrange: true };
  $("parallel").style.minHeight = isUp ? `${(end + 1) * 92}px` : "";
  plot("parallel", lines, {
    height: isUp ? (end + 1) * 92 : 440,
    margin: isUp ? { l: 12, r: 24, t: 20, b: 16 } : { l: 64, r: 84, t: names.length > 8 ? 60 : 36, b: 8 },
    xaxis: isUp ? across : along,
    yaxis: isUp ? along : across,
    shapes,
    annotations: notes,
  });
  $("parallel-note").textContent =
    `A line is a trial; the better, the ${isDark() ? "brighter" : "darker"}. Chosen trials are thick.` +
    (finished.length < shown.length ? " Dotted: diverged, or without a value." : "");
}

function drawMatter() {
  const bars = D.importance.bars.toReversed();
  plot(
    "matter",
    [
      {
        type: "bar",
        orientation: "h",
        y: bars.map((_, i) => i),
        x: bars.map(b => b.drop),
        marker: { color: D.importance.r2 < 0.3 ? css("--quiet") : css("--accent") },
        width: 0.55,
        error_x: {
          type: "data",
          symmetric: false,
          array: bars.map(b => b.high - b.drop),
          arrayminus: bars.map(b => b.drop - b.low),
          color: css("--text"),
          thickness: 1,
          width: 4,
        },
        ...hover,
        text: bars.map(
          b => `${escape(b.name)}: R² falls by ${short(b.drop, 2)}<br>${short(b.low, 2)} to ${short(b.high, 2)}`,
        ),
        textposition: "none",
      },
    ],
    {
      height: Math.max(200, 70 + 44 * bars.length),
      yaxis: {
        tickvals: bars.map((_, i) => i),
        ticktext: bars.map(b => escape(b.name.length > 22 ? b.name.slice(0, 21) + "…" : b.name)),
        showgrid: false,
        fixedrange: true,
      },
      xaxis: {
        title: title("R² lost when shuffled"),
        rangemode: "tozero",
        zeroline: true,
        zerolinecolor: css("--quiet"),
      },
    },
  );
}

// ---- what is drawn when ----
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
// Only what is on the screen, or nearly: the rest waits until it is scrolled to.
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
addEventListener("beforeprint", () => {
  for (const id of pictures.keys()) near.add(id);
  draw();
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
    rows.length > most ? `${most} of the ${rows.length} chosen trials are drawn.` : "",
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
  const bad = shown.filter(isDiverged).length;
  $("shown").textContent =
    (shown.length < all.length
      ? `${shown.length.toLocaleString("en")} of ${plural(all.length, "trial")} shown`
      : `all ${plural(all.length, "trial")} shown`) + (bad ? `, ${bad} of them diverged` : "");
  return !isSame;
}
function say() {
  const axis = metricAxis(shown),
    n = axis.nHeld ?? 0;
  const empty = shown.filter(row => value(row) === null && !isDiverged(row)).length;
  const noPlace = shown.filter(row => D.varied.some(name => place(name, row) === null)).length;
  $("each-note").textContent =
    (D.hasSeeds
      ? "A point is a setting's mean over its seeds, the bar its 95 % interval (Student t; none for one seed)."
      : "A point is a trial; there are no seeds to average over.") +
    " The line joins the means of the points at a value, as they are drawn." +
    (shown.some(isDiverged)
      ? ` Crosses count trials that diverged${D.hasSeeds ? "; a hollow point lost some of its seeds to that" : ""}.`
      : "") +
    (n ? ` ${plural(n, "trial")} far on the worse side: triangles at the edge.` : "") +
    (empty ? ` ${plural(empty, "trial")} without a value not drawn.` : "") +
    (noPlace ? ` ${plural(noPlace, "trial")} that lack a hyperparameter are not drawn against it.` : "");
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
  ? `For ${words(D.metric)}, over all trials whatever is filtered. Whiskers: the least and the most of five folds.`
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
await new Promise(requestAnimationFrame); // the table is seen before the larger half of the page's script is read
const script = document.createElement("script");
script.textContent = await unpack("plotly");
document.head.append(script);
Plotly = window.Plotly;
refresh();
document.documentElement.dataset.ready = "yes";
"""
