"""A training run or a sweep that is killed at any moment continues to the very same models, bit for bit.

Claims: `jaxmlp train ... --resume`, after any number of SIGKILLs at random moments, ends with the same model file as a
run that was never killed. A repeated `jaxmlp sweep ...` ends with the same table, curves and model files as a sweep
that was never killed, and trains no finished trial again.

    python -m experiments.kill_and_resume [--sweep] [--kills 20] [--seed 0]

Two runs are the reference. Then the same run is killed after a random time, resumed, killed again, and started anew
whenever it finishes, until the number of kills is reached. Every run that finished is compared. Kills hit anywhere:
imports, compilation, an epoch, a file being written.
"""

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from experiments._options import Parser, count
from jaxmlp import sweep
from jaxmlp.sweep.store import Row

TRAIN = ["train", "digits", "--epochs", "3000", "--patience", "2500", "--quiet"]
# Twelve programs, so twelve blocks at least: a kill costs one of them.
SWEEP = ["sweep", "digits", "--grid", "hidden=8,12,16,24,32,48", "--grid", "batch_size=32,64", "--epochs", "60"]
SWEEP += ["--grid", "learning_rate=0.01,0.1,1e18", "--seeds", "2", "--keep", "all", "--quiet"]


class Subject(NamedTuple):
    """A command to kill: how it begins and continues, what it has kept so far, and a digest of its end."""

    begin: list[str]
    go_on: list[str]
    kept: Callable[[Path], str]
    digest: Callable[[Path], str]
    check: Callable[[Path], None]


def epochs_kept(folder: Path) -> str:
    from jaxmlp import MLP
    from jaxmlp.storage.checkpoint import load_training

    path = folder / "checkpoint.safetensors"
    return f"{len(load_training(path, MLP((64, 128, 10))).history) if path.exists() else 0} epochs"


def digest_of_model(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


class Trials:
    """The trials in a sweep's folder, and a check that finished ones stay as they were."""

    def __init__(self) -> None:
        """Begin with none."""
        self._ended: set[Row] = set()

    def kept(self, folder: Path) -> str:
        """Say how many trials have ended."""
        self.check(folder)
        return f"{len(self._ended)} trials"

    def check(self, folder: Path) -> None:
        """Raise an error if a trial that had finished is missing or was trained again."""
        rows = set(sweep.load(folder).rows()) if _is_begun(folder) else set()
        if not self._ended <= rows:
            raise AssertionError(f"trained again: {sorted(row.trial for row in self._ended - rows)}")
        self._ended = rows

    def digest(self, folder: Path) -> str:
        """Hash the table, the curves, and the models, without times."""
        results, digest = sweep.load(folder), hashlib.sha256()
        for row in results.rows():
            curve = [epoch._replace(seconds=0.0) for epoch in results.history(row.trial)]
            digest.update(repr((row._replace(seconds=0.0), curve)).encode())
        for path in sorted((folder / "models").iterdir()):
            digest.update(path.name.encode() + path.read_bytes())
        self._ended = set()  # the next run begins anew
        return digest.hexdigest()


def _is_begun(folder: Path) -> bool:
    try:
        sweep.load(folder)
        return True
    except (FileNotFoundError, ValueError):
        return False


def command(subject: list[str], folder: Path) -> list[str]:
    return [sys.executable, "-m", "jaxmlp", *subject, "--out", str(folder)]


def run_and_kill(subject: list[str], folder: Path, after: float) -> bool:
    """Start or continue a run and kill it after some seconds; return whether it was still running."""
    process = subprocess.Popen(command(subject, folder))
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    code = process.wait()
    if code not in (0, -signal.SIGKILL):
        sys.exit(f"exit code {code}")
    return code == -signal.SIGKILL


def main() -> None:
    parser = Parser("experiments.kill_and_resume", __doc__)
    parser.add_argument("--sweep", action="store_true", help="kill a sweep instead of a training run")
    parser.add_argument("--kills", type=count, default=20, metavar="N", help="number of kills, 20 by default")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the moments, 0 by default")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    trials = Trials()
    subject = Subject(TRAIN, [*TRAIN, "--resume"], epochs_kept, digest_of_model, lambda folder: None)
    if arguments.sweep:
        subject = Subject(SWEEP, SWEEP, trials.kept, trials.digest, trials.check)
    with tempfile.TemporaryDirectory() as name:
        reference, killed = Path(name, "reference"), Path(name, "killed")
        # Twice, because the first run may fill the compilation cache and take longer than all others.
        for folder in (killed, reference):
            start = time.monotonic()
            subprocess.run(command(subject.begin, folder), check=True)
            seconds, expected = time.monotonic() - start, subject.digest(folder)
        shutil.rmtree(killed)
        print(f"nobody killed the first two runs: {seconds:.1f} s, ended in {expected}")
        hits = ends = same = 0
        while hits < arguments.kills or ends == 0 or killed.exists():
            after = moments.uniform(0, 0.8 * seconds) if hits < arguments.kills else 1e6
            if run_and_kill(subject.go_on, killed, after):
                hits += 1
                print(f"  kill {hits:2} after {after:4.1f} s, with {subject.kept(killed)} kept", flush=True)
                continue
            ends += 1
            subject.check(killed)
            found = subject.digest(killed)
            same += found == expected
            print(f"  came to its end: {found}", flush=True)
            shutil.rmtree(killed)
    print(
        f"{hits} kills; {same} of {ends} resumed runs ended in the very same {'results' if arguments.sweep else 'file'}"
    )
    sys.exit(same != ends)


if __name__ == "__main__":
    main()
