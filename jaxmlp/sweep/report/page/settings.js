// The table of settings, the best first, as `Results.settings` has them. It is of the sweep's own metric.
const settingName = name => (D.names.includes(name) ? name : words(name));
const settingColumns = Object.keys(D.ranked.columns);
const settingCell = (name, place) => {
  const v = D.ranked.columns[name][place];
  return Array.isArray(v) ? (v[0] === null ? "" : `${short(v[0])} to ${short(v[1])}`) : short(v, 5);
};
$("settings")
  .createTHead()
  .insertRow()
  .append(
    ...settingColumns.map(name =>
      Object.assign(document.createElement("th"), { scope: "col", textContent: settingName(name) }),
    ),
  );
new DataTable("#settings", {
  data: D.ranked.trials.map((_, place) => place),
  deferRender: true,
  autoWidth: false,
  ordering: false,
  searching: false,
  pageLength: 10,
  lengthMenu: [10, 25, 100],
  columns: settingColumns.map(name => ({
    data: (place, kind) => (kind === "display" ? escape(settingCell(name, place)) : settingCell(name, place)),
    className: D.ranked.columns[name].every(v => v === null || typeof v === "number") ? "dt-right" : "dt-left",
  })),
  layout: { topStart: null, topEnd: null, bottomStart: ["info", "pageLength"], bottomEnd: "paging" },
  language: { info: "_START_ to _END_ of _TOTAL_ settings", lengthMenu: "_MENU_ a page" },
  createdRow: (tr, place) => {
    tr.classList.toggle("without", D.ranked.columns.n[place] === 0 || D.ranked.columns[D.metric][place] === null);
    tr.onclick = () => toggle(D.ranked.trials[place]);
  },
});
