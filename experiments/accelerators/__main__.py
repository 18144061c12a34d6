"""What XLA's compilers make of our programs for an H100 and for TPUs, on a machine that has neither.

    python -m experiments.accelerators [--targets H100 "TPU v5e"] [--show]

NOTHING HERE IS MEASURED ON A DEVICE. The compilers are real (`pip install jaxmlp[accelerators]`), and so are the
programs, but none of them runs. Operations, bytes and memory are counted in the compiled programs. With the rates in
the devices' datasheets they give a roofline: the seconds that a step takes if nothing but these rates holds it up.

- Operations a step: what the body of the loop over steps holds after fusion. A GPU launches a kernel for each. A loop
  within a step counts as one.
- Bytes a step: what these operations read and write in main memory. The least is each parameter and each last step read
  and written once, and each row of the batch read once. A TPU keeps small programs in its on-chip memory, whose bytes
  do not count. Those in the 50 MB cache of an H100 do, so that it may be faster than this.
- Roofline: the longer of bytes / bandwidth and arithmetic / peak, where only matrix products count as arithmetic. The
  products of small networks are far from the peak on every device, so that this is optimistic, above all for TPUs.
- Networks a second: of 30 epochs on 1,437 images, by the roofline; in brackets if an operation takes 2 microseconds or
  more. That is an assumption, and from no datasheet.
- Memory: arguments, results and temporary arrays, as the compiler reserves them; and the estimate of the plan.
"""

import json

import jax

from experiments._options import Parser
from experiments._report import RESULTS, environment, write_json
from experiments._timing import in_fresh_process
from experiments.accelerators.rows import rows_of
from experiments.accelerators.tables import draw, show
from experiments.accelerators.targets import TARGETS

NAME = "accelerators"


def main() -> None:
    parser = Parser("experiments.accelerators", __doc__)
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS), help="by default all")
    parser.add_argument("--show", action="store_true", help="only print and draw what was found before")
    asked = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # so that JAX does not look for the devices
    path = RESULTS / f"{NAME}.json"
    kept = json.loads(path.read_text()) if path.exists() else {"rows": []}
    rows = [row for row in kept["rows"] if asked.show or row["target"] not in asked.targets]
    if not asked.show:
        for name in asked.targets:
            rows += in_fresh_process(rows_of, name)
            write_json(NAME, {"environment": environment("libtpu", "jax-cuda12-plugin"), "rows": rows})
    show(rows)
    draw(rows, RESULTS / f"{NAME}.png")


if __name__ == "__main__":
    main()
