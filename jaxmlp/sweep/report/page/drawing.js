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
    // A point stands for trials: a click selects them.
    if (isNew) div.on("plotly_click", e => toggle(e.points[0]?.customdata));
  });
};
const hover = { hoverinfo: "text" };
const diverged = n => `${n} diverged`;
const cross = size => ({ symbol: "x-thin", size, line: { width: 2, color: css("--bad") }, color: css("--bad") });
