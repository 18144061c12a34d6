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
    const t = (axis.hold(reached(row)) - low) / (high - low);
    return metric.isHigh ? t : 1 - t;
  };
  const last = row => (reached(row) === null ? -0.13 : score(row));
  const lines = [],
    points = { x: [], y: [], text: [], customdata: [] },
    flip = (x, y) => (isUp ? { x: y, y: x.map(v => end - v) } : { x, y });
  const trace = (rows, line) => {
    if (!rows.length) return;
    const x = [],
      y = [];
    for (const row of rows) {
      names.forEach((name, i) => {
        x.push(i);
        y.push(at(name, row));
      });
      x.push(end, end);
      y.push(last(row), null);
    }
    lines.push({ ...flip(x, y), mode: "lines", line, hoverinfo: "skip" });
  };
  const finished = shown.filter(row => value(row) !== null),
    lost = shown.filter(row => reached(row) === null),
    cut = shown.filter(row => value(row) === null && reached(row) !== null),
    shade = t => Math.max(0, Math.min(8, Math.floor(t * 9))),
    scale = rampNow();
  // Thousands of lines would be a solid block: those that run side by side are drawn as one, as wide as they are many.
  const isMany = shown.length > 300,
    steps = 12;
  const bundle = (rows, colorOf, more) => {
    const bundles = new Map(),
      near = u => (u === null || u < 0 ? u : Math.round(u * steps) / steps);
    for (const row of rows) {
      const points = [...names.map(name => at(name, row)), last(row)].map(near);
      range(0, end - 1).forEach(i => {
        const [a, b] = [points[i], points[i + 1]];
        if (a === null || b === null) return;
        const key = `${i} ${a} ${b}`;
        if (!bundles.has(key)) bundles.set(key, { i, a, b, n: 0, sum: 0 });
        const found = bundles.get(key);
        found.n += 1;
        found.sum += Math.max(0, last(row));
      });
    }
    const look = b => `${Math.min(6, Math.floor(Math.log2(b.n)))} ${colorOf(b.sum / b.n)}`;
    const looks = groupBy([...bundles.values()], look);
    for (const key of [...looks.keys()].sort()) {
      const [size, color] = [+key.split(" ")[0], key.split(" ").slice(1).join(" ")],
        these = looks.get(key),
        x = these.flatMap(b => [b.i, b.i + 1, b.i + 1]),
        y = these.flatMap(b => [b.a, b.b, null]);
      const line = { color, width: 0.4 + size * 0.7, ...more };
      lines.push({ ...flip(x, y), mode: "lines", opacity: 0.25 + size * 0.1, line, hoverinfo: "skip" });
    }
  };
  if (isMany) {
    bundle(cut, () => css("--line"), {});
    bundle(lost, () => css("--bad"), { dash: "dot" });
    bundle(finished, t => scale[shade(t)], {});
  } else {
    trace(cut, { color: css("--line"), width: 1 });
    trace(lost, { color: css("--bad"), width: 1.3, dash: "dot" });
    const bins = groupBy(finished, row => shade(score(row)));
    for (const bin of [...bins.keys()].sort((a, b) => a - b)) trace(bins.get(bin), { color: scale[bin], width: 1.3 });
  }
  for (const { row, slot } of chosen) if (shown.includes(row)) trace([row], { ...lineOf(slot), width: 3 });
  for (const row of shown) {
    points.x.push(names.length);
    points.y.push(last(row));
    points.customdata.push([row]);
    const end =
      (value(row) === null ? D.columns.status[row] : "") +
      (reached(row) === null ? "" : ` ${metric.label} ${short(reached(row))}`);
    points.text.push(`trial ${D.columns.trial[row]}: ${escape(end)}<br>${about(row)}`);
  }
  lines.push({
    ...flip(points.x, points.y),
    text: points.text,
    customdata: points.customdata,
    mode: "markers",
    marker: {
      size: isMany ? 4 : 6,
      opacity: isMany ? 0.4 : 1,
      color: shown.map(row =>
        reached(row) === null ? css("--bad") : value(row) === null ? css("--quiet") : scale[shade(score(row))],
      ),
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
  if (lost.length)
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
    (isMany
      ? `A line stands for the trials that run there, the wider the more; ${isDark() ? "brighter" : "darker"} is better.`
      : `A line is a trial; better trials are ${isDark() ? "brighter" : "darker"}, selected ones thick.`) +
    (lost.length ? " Dotted lines: diverged, or without a value." : "") +
    (cut.length ? " Grey lines: stopped by halving." : "");
}
