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
          text: chosen.length ? "no finite number" : "select trials in the table",
          showarrow: false,
          xref: "paper",
          yref: "paper",
          x: 0.5,
          y: 0.5,
        },
      ];
  const what = names.length > 1 ? "loss (training dotted)" : words(names[0]);
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
const lossNames = ["validation_loss", "train_loss"].filter(name => D.curves.some(c => c[name]));
const scoreNames = [...new Set(D.curves.flatMap(Object.keys))].filter(
  name => name !== "epoch" && !lossNames.includes(name),
);
