// A trial that halving stopped has no final value: what it had reached does not compare with the others.
const value = row => {
  const v = D.columns[metric.name][row];
  return v !== null && !isDiverged(row) && !isCut(row) ? v : null;
};
const reached = row => (isDiverged(row) ? null : D.columns[metric.name][row]);
const isDiverged = row => D.columns.status[row] === "diverged";
const mean = v => v.reduce((a, b) => a + b, 0) / v.length;
// The ends of the mean's interval, within the metric's bounds; null for one value.
const interval = v => {
  if (v.length < 2) return null;
  const m = mean(v),
    half = D.t[v.length] * Math.sqrt(v.reduce((a, b) => a + (b - m) ** 2, 0) / (v.length - 1) / v.length);
  return [Math.max(m - half, Math.min(metric.low ?? -Infinity, ...v)), Math.min(m + half, Math.max(metric.high ?? Infinity, ...v))];
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
// A trial's position on a hyperparameter's axis; null if it has none.
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
// The marks that are more than `gap` from the last one kept.
const apart = (marks, gap, at) => {
  const kept = [];
  for (const mark of marks.toSorted((a, b) => at(a) - at(b)))
    if (!kept.length || at(mark) - at(kept.at(-1)) > gap) kept.push(mark);
  return kept;
};
// Ticks at the values if they are few, else at round numbers; none touches the one before.
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
// The metric's axis: logarithmic for losses that differ much; far outliers on the bad side are drawn at its end.
const metricAxis = rows => {
  const values = rows.map(reached).filter(v => v !== null),
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
