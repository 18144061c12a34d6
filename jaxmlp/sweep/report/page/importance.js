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
