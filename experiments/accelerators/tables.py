"""Tables and the picture of what the compilers made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments._report import print_table
from experiments.accelerators.targets import TARGETS
from experiments.claims._plotting import COLORS, MARKERS, figure, legend, title

__all__ = ["draw", "networks_a_second", "show"]

SECONDS_OF_OPERATION = 2e-6  # an assumption, from no datasheet
_STEPS = 30 * 44  # 30 epochs of 1,437 images, in batches of 32
_NO_RUN = "counts and rooflines, nothing measured"


def networks_a_second(row: dict[str, Any], seconds_of_operation: float = 0.0) -> float:
    """Return how many networks a second a device would train by its roofline, each for 30 epochs on 1,437 images."""
    return row["lanes"] / (_STEPS * max(row["bound_seconds"], row["operations"] * seconds_of_operation))


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table of the sweeps and one of all other programs for each target, and the rates of the roofline."""
    for name, target in TARGETS.items():
        of_target = [row for row in rows if row["target"] == name]
        steps = [row for row in of_target if "bound_seconds" in row]
        if not of_target:
            continue
        rates = f"{target.bandwidth / 1e12:.3g} TB/s, {target.flops / 1e12:.0f} TFLOP/s in {target.precision}"
        header = (
            "program",
            "batch",
            "lanes",
            "operations a step",
            "MB a step",
            "times the least",
            "roofline of a step, us",
        )
        more = ("by", "networks/s by it", "arguments + results + temporary, MB", "plan, MB", "compiled in, s")
        print_table(f"{name} ({_NO_RUN}; {target.source}: {rates})", header + more, [_step(row) for row in steps])
        others = [row for row in of_target if "bound_seconds" not in row and "error" not in row]
        columns = ("program", "batch", "operations", "MB", "temporary, MB", "compiled in, s")
        print_table(f"{name}, programs without steps (784-512-512-10)", columns, [_whole(row) for row in others])
        for row in of_target:
            if "error" in row:
                print(f"{row['program']} {row['sizes']}, {row['lanes']} lanes: {row['error']}\n")


def _step(row: dict[str, Any]) -> tuple[object, ...]:
    sizes = "-".join(map(str, row["sizes"]))
    memory = [row[part] / 1e6 for part in ("argument_bytes", "output_bytes", "temporary_bytes")]
    of_digits = row["sizes"][0] == 64
    return (
        f"{row['program'].split(', 784')[0]} {sizes}",
        row["batch_size"],
        f"{row['lanes']:,}",
        row["operations"],
        f"{row['bytes'] / 1e6:.3g}",
        f"{row['bytes'] / row['least_bytes']:.2f}",
        f"{1e6 * row['bound_seconds']:.3g}",
        row["bound_by"],
        f"{networks_a_second(row):,.0f} ({networks_a_second(row, SECONDS_OF_OPERATION):,.0f})" if of_digits else "",
        " + ".join(f"{part:.3g}" for part in memory),
        f"{row['planned_bytes'] / 1e6:.3g}" if "planned_bytes" in row else "",
        f"{row['compile_seconds']:.1f}",
    )


def _whole(row: dict[str, Any]) -> tuple[object, ...]:
    moved, temporary = row["bytes"] / 1e6, row["temporary_bytes"] / 1e6
    seconds = f"{row['compile_seconds']:.1f}"
    return row["program"], row["batch_size"], row["operations"], f"{moved:.3g}", f"{temporary:.3g}", seconds


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw networks a second by the roofline against lanes, for both small networks."""
    made, panels = figure(2)
    for axes, sizes in zip(panels, ([64, 32, 10], [64, 128, 10]), strict=True):
        for number, name in enumerate(TARGETS):
            points = [
                row
                for row in rows
                if row["target"] == name
                and row["program"] == "sweep"
                and list(row["sizes"]) == sizes
                and "bytes" in row
            ]
            if not points:
                continue
            lanes, style = [row["lanes"] for row in points], {"color": COLORS[number], "marker": MARKERS[number]}
            axes.plot(
                lanes, [networks_a_second(row) for row in points], **style, label=name, linewidth=1.4, markersize=4
            )
            slower = [networks_a_second(row, SECONDS_OF_OPERATION) for row in points]
            axes.plot(lanes, slower, **style, linewidth=1, linestyle="--", markersize=3, alpha=0.7)
        axes.set(xscale="log", yscale="log", xlabel="networks side by side", ylabel="networks a second")
        title(axes, f"{'-'.join(map(str, sizes))}, batch 32, 30 epochs of 1,437 images")
        axes.plot([], [], color="0.3", linewidth=1, linestyle="--", label="if an operation takes 2 us (assumed)")
    legend(panels[0])
    made.suptitle("Rooflines from compiled programs and datasheets: nothing was run on a device", fontsize=9.5)
    made.savefig(path, dpi=200)
