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
  // Plotly would draw the axis's own title over the ticks if the colour bar is horizontal.
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
    `A cell shows the ${pick} of its trials with a value, over seeds and all other hyperparameters.` +
    (n ? ` Grey with a cross: all diverged. ✕ 1/4: one of four diverged, and the ${pick} is that of the others.` : "");
}
const ink = (axis, at) => {
  // dark text on light cells, light text on dark ones
  const scale = colorscale(),
    [low, high] = axis.range,
    t = Math.min(1, Math.max(0, (at - low) / (high - low)));
  return ramp.indexOf(scale[Math.round(t * (scale.length - 1))][1]) < 4 ? "#111" : "#fff";
};
