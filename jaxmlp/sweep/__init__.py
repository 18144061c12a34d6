"""Sweeps: many networks with different hyperparameters, trained side by side in one program.

>>> from jaxmlp import Dataset, TrainConfig, sweep
>>> data = Dataset([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]] * 8, [0, 1, 1, 0] * 8)
>>> space = sweep.grid(learning_rate=[0.001, 0.1], momentum=[0.0, 0.9], seed=range(3))
>>> results = sweep.run(space, data, TrainConfig(epochs=20), validation=data)
>>> results.best("validation_loss").hyperparameters
{'learning_rate': 0.1, 'momentum': 0.9}
"""

from jaxmlp.sweep.halving import Halving
from jaxmlp.sweep.metrics import Setting
from jaxmlp.sweep.optimizing import optimize
from jaxmlp.sweep.planning import Group, Plan
from jaxmlp.sweep.progress import Progress, StopSweep, show_progress
from jaxmlp.sweep.results import Results, load
from jaxmlp.sweep.running import plan, run
from jaxmlp.sweep.space import Distribution, Space, Trial, grid, integers, log_uniform, random, uniform
from jaxmlp.sweep.status import Status
from jaxmlp.sweep.tuning import Tuned, tune

__all__ = [
    "Distribution",
    "Group",
    "Halving",
    "Plan",
    "Progress",
    "Results",
    "Setting",
    "Space",
    "Status",
    "StopSweep",
    "Trial",
    "Tuned",
    "grid",
    "integers",
    "load",
    "log_uniform",
    "optimize",
    "plan",
    "random",
    "run",
    "show_progress",
    "tune",
    "uniform",
]
