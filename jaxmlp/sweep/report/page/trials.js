const $ = id => document.getElementById(id);
const unpack = async id => {
  const text = atob($(id).textContent),
    bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
// Libraries read text as markup, so every text with a user's name in it is escaped.
const escape = text => String(text).replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);
const D = JSON.parse(await unpack("data")),
  CUT = D.cut,
  all = D.settings.map((_, row) => row);
// 1e18 and 1e20 shall differ at a glance, and in a label that is cut off.
const short = (v, digits = 4) =>
  v === null || v === undefined
    ? "–"
    : typeof v !== "number"
      ? String(v)
      : Math.abs(v) >= 1e6
        ? String(+v.toPrecision(digits)).includes("e")
          ? String(+v.toPrecision(digits)).replace("e+", "e")
          : (+v.toPrecision(digits)).toExponential().replace("e+", "e")
        : String(+v.toPrecision(digits));
const plural = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
const words = name => name.replace("_r2", "_R²").replaceAll("_", " ");
const isCut = row => D.columns.status[row] === CUT;
let metric = D.metrics[0],
  shown = all,
  chosen = [];

// Colours.
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

// The table of trials.
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
const tableColumns = ["trial", ...D.names, "status", ...D.metrics.map(m => m.name), ...D.others];
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
  data: D.order, // the best first, of a tie the first trial; then those that halving stopped, and the diverged
  deferRender: true,
  autoWidth: false,
  pageLength: 10,
  lengthMenu: [10, 25, 100],
  order: [],
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
        if (isCut(row)) td.className += " cut";
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
    zeroRecords: "No trial matches",
    lengthMenu: "_MENU_ a page",
  },
  createdRow: (tr, row) => {
    tr.dataset.row = row;
    tr.style.setProperty("--swatch", colorOf(row));
  },
});
