"""What audits find: lower bounds of epsilon beside the claim, for the right mechanism and for planted faults.

    python -m experiments.private_audit [--seeds 3]

`pip install jaxmlp[bench,private]`. Every mechanism claims epsilon 1.5 at delta 1e-5. All audits have a confidence of
95 %, so a right mechanism exceeds its claim at most once in twenty audits.

- One run: one step with 1,000 canaries, random examples that are each in the batch or not (`private.audit`).
- 2,000 trainings: five steps on 100 digits, half of them with a mislabelled image and half without
  (`private.audit_runs`). An adversary sees every noised gradient, or only the loss of that image at the end.

Faults: no noise; a quarter of it; the noise divided by B twice; clipping at 8 C with the noise of C; biases without
noise; the same noise in every run; batches that are all examples, accounted as Poisson batches of a tenth.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments._options import Parser, count
from experiments._report import RESULTS, environment, print_table, write_json
from jaxmlp import MLP, Dataset
from jaxmlp.data import read
from jaxmlp.plots.auditing import draw_audit_bounds
from jaxmlp.private import Audit, Mechanism, audit, audit_runs, gradient, noise_multiplier_for

CLAIM, DELTA, CLIP = 1.5, 1e-5, 0.1
N_CANARIES, N_EXAMPLES, STEPS, N_RUNS = 1000, 100, 5, 1000
OF_ONE_RUN, OF_RUNS = MLP((2000, 30, 10), "tanh"), MLP((64, 16, 10), "tanh")
ONE_RUN, DIRECTION, LOSS = (
    "one run, 1,000 canaries",
    "2,000 trainings, all gradients seen",
    "2,000 trainings, one loss seen",
)

Step = Callable[..., Any]


def changed(**factors: float) -> Step:
    """Return the step with some of its numbers multiplied."""

    def faulty(mlp: Any, params: Any, drawn: Any, is_drawn: Any, numbers: Any, key: Any) -> Any:
        values = {name: getattr(numbers, name) * factor for name, factor in factors.items()}
        return gradient(mlp, params, drawn, is_drawn, numbers._replace(**values), key)

    return faulty


def without_noise_on_biases(mlp: Any, params: Any, drawn: Any, is_drawn: Any, numbers: Any, key: Any) -> Any:
    of_both = [numbers, numbers._replace(noise_multiplier=0.0)]
    noised, exact = (gradient(mlp, params, drawn, is_drawn, each, key) for each in of_both)
    return tuple(a._replace(b=b.b) for a, b in zip(noised, exact, strict=True))


def same_noise(mlp: Any, params: Any, drawn: Any, is_drawn: Any, numbers: Any, key: Any) -> Any:
    return gradient(mlp, params, drawn, is_drawn, numbers, jax.random.key(0))


class FullBatches(Mechanism):
    """Every batch has all examples; the account has Poisson batches."""

    @property
    def largest_batch(self) -> int:
        """The most examples of a batch."""
        return self.n_examples

    def draw(self, key: Any, steps: range) -> tuple[np.ndarray, np.ndarray]:
        """Return all examples for each step."""
        return Mechanism(self.n_examples, self.n_examples, 1.0, 1.0).draw(key, steps)


STEPS_OF: dict[str, Step] = {
    "right": gradient,
    "no noise": changed(noise_multiplier=0.0),
    "a quarter of the noise": changed(noise_multiplier=0.25),
    "noise divided by B twice": changed(noise_multiplier=1 / N_EXAMPLES),
    "clipped at 8 C": changed(clip=8.0, noise_multiplier=1 / 8),
    "biases without noise": without_noise_on_biases,
    "the same noise in every run": same_noise,
}
FULL = "full batches, accounted as Poisson"


def examples() -> Dataset:
    """Return 100 digits, of which the first has a wrong class."""
    source = read("digits")
    t = np.array(source.t[:N_EXAMPLES])
    t[0] = (t[0] + 1) % 10
    return Dataset(source.x[:N_EXAMPLES] / 16, t)


def audits_of(mechanism: Mechanism, step: Step, seeds: int) -> dict[str, list[Audit]]:
    of_runs = {"steps": STEPS, "learning_rate": 2.0, "n_runs": N_RUNS, "delta": DELTA, "gradient": step}
    return {
        name: [
            audit_runs(OF_RUNS, examples(), mechanism, key=jax.random.key(seed), score=score, **of_runs)
            for seed in range(seeds)
        ]
        for name, score in ((DIRECTION, "direction"), (LOSS, "loss"))
    }


def audits(seeds: int) -> dict[str, dict[str, list[Audit]]]:
    """Return the audits of each mechanism, by mechanism and kind."""
    sigma = noise_multiplier_for(CLAIM, DELTA, n_examples=N_CANARIES, batch_size=N_CANARIES, steps=1)
    sigma_of_runs = noise_multiplier_for(CLAIM, DELTA, n_examples=N_EXAMPLES, batch_size=N_EXAMPLES, steps=STEPS)
    found = {}
    for name, step in STEPS_OF.items():
        of_one = {"delta": DELTA, "clip": CLIP, "n_canaries": N_CANARIES, "gradient": step}
        keys = [jax.random.key(seed) for seed in range(seeds)]
        found[name] = {ONE_RUN: [audit(OF_ONE_RUN, sigma, key=key, **of_one) for key in keys]}
        found[name] |= audits_of(Mechanism(N_EXAMPLES, N_EXAMPLES, sigma_of_runs, CLIP), step, seeds)
        print(name, {kind: [round(each.lower, 2) for each in of] for kind, of in found[name].items()}, flush=True)
    sigma = noise_multiplier_for(CLAIM, DELTA, n_examples=N_EXAMPLES, batch_size=N_EXAMPLES // 10, steps=STEPS)
    found[FULL] = audits_of(FullBatches(N_EXAMPLES, N_EXAMPLES // 10, sigma, CLIP), gradient, seeds)
    return found


def main() -> None:
    parser = Parser("experiments.private_audit", __doc__)
    parser.add_argument("--seeds", type=count, default=3, metavar="N", help="audits of each kind, 3 by default")
    asked = parser.parse_args()
    found = audits(asked.seeds)
    bounds = {name: {kind: [each.lower for each in of] for kind, of in kinds.items()} for name, kinds in found.items()}
    shown = [
        [name, *(", ".join(f"{bound:.2f}" for bound in kinds.get(kind, [])) for kind in (ONE_RUN, DIRECTION, LOSS))]
        for name, kinds in bounds.items()
    ]
    header = ["mechanism", ONE_RUN, DIRECTION, LOSS]
    print_table(f"Epsilon is at least, where at most {CLAIM} is claimed ({asked.seeds} seeds)", header, shown)
    by_kind = {
        name: {kind: [one._asdict() for one in of] for kind, of in kinds.items()} for name, kinds in found.items()
    }
    write_json("private_audit", {"environment": environment("dp-accounting"), "claimed": CLAIM, "found": by_kind})
    figure = draw_audit_bounds(bounds, CLAIM, "What audits prove of epsilon, with a confidence of 95 %")
    figure.savefig(RESULTS / "private_audit.png", dpi=150)


if __name__ == "__main__":
    main()
