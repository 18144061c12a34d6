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
    `A line is a trial; better trials are ${isDark() ? "brighter" : "darker"}, selected ones thick.` +
    (finished.length < shown.length ? " Dotted lines: diverged, or without a value." : "");
}
