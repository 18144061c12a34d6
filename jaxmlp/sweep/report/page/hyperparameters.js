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
  const full = groups.filter(g => g.values.length).map(g => ({ ...g, mean: mean(g.values), ends: interval(g.values) }));
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
  const isMany = full.length > 150; // whose intervals would be a solid block
  const accent = css("--accent"),
    ends = full.map(g => g.ends ?? [g.mean, g.mean]);
  const y = full.map(g => axis.hold(g.mean)),
    safe = v => (axis.isLog && v <= 0 ? axis.range[0] - 9 : axis.at(v));
  const text = full.map(
    g =>
      `${about(g.rows[0]).replace(/<br>seed = .*/, "")}<br>mean ${short(g.mean)}` +
      (g.ends ? ` (${short(g.ends[0])} to ${short(g.ends[1])})` : "") +
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
        opacity: isMany ? Math.max(0.12, 60 / full.length) : full.length > 100 ? 0.55 : 0.85,
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
        visible: !isMany,
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
  const cut = groups.filter(g => g.rows.some(isCut)).map(g => ({ ...g, cut: g.rows.filter(r => isCut(r) && reached(r) !== null) }));
  const halved = cut.filter(g => g.cut.length);
  if (halved.length)
    traces.unshift({
      x: halved.map(g => g.x),
      y: halved.map(g => (axis.hold ?? axis.at)(mean(g.cut.map(reached)))),
      text: halved.map(
        g =>
          `${about(g.rows[0]).replace(/<br>seed = .*/, "")}<br>stopped by halving at epoch ` +
          `${extent(g.cut.map(r => D.columns.epochs[r]))[1]}, mean ${short(mean(g.cut.map(reached)))}`,
      ),
      customdata: halved.map(g => g.rows),
      mode: "markers",
      ...hover,
      marker: { color: css("--quiet"), opacity: 0.6, size: 5, symbol: "circle-open" },
    });
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
  if (!values && isMany) {
    const bins = groupBy(full, g => Math.min(11, Math.floor(((g.x - low) / (high - low)) * 12))),
      places = [...bins.keys()].sort((a, b) => a - b),
      x = places.map(k => low + ((k + 0.5) / 12) * (high - low)),
      sorted = places.map(k => bins.get(k).map(g => axis.hold(g.mean)).sort((a, b) => a - b)),
      q = p => sorted.map(s => s[Math.round(p * (s.length - 1))]),
      color = css("--text");
    const side = { x, mode: "lines", line: { color, width: 0.7, dash: "dot" }, hoverinfo: "skip" };
    traces.push(
      { ...side, y: q(0.25) },
      { ...side, y: q(0.75) },
      {
        x,
        y: q(0.5),
        mode: "lines+markers",
        line: { color, width: 2 },
        marker: { size: 5, color },
        text: places.map(
          (k, i) => `median of ${plural(bins.get(k).length, "setting")}: ${short(axis.isLog ? 10 ** q(0.5)[i] : q(0.5)[i])}`,
        ),
        ...hover,
      },
    );
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
// On a logarithmic metric axis, places are already logarithms, and so are the ticks.
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
