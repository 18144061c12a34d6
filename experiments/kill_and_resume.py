"""A training run that is killed at any moment goes on to the very same model, bit for bit.

Claim: `jaxmlp train ... --resume` after any number of SIGKILLs at random moments ends with the parameters, and the
whole model file, of the run that nobody killed.

    python -m experiments.kill_and_resume [--kills 20] [--seed 0]

One reference run; then the same run, killed after a random time, resumed, killed again, ... and begun anew whenever it
comes to its end, until the wanted number of kills has hit. Every run that came to its end is compared. Kills land
anywhere: in imports, compilation, an epoch, a file being written.
"""

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OPTIONS = ["--epochs", "3000", "--patience", "2500", "--quiet"]


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "jaxmlp", "train", "digits", "--out", str(folder), *OPTIONS, *more]


def epochs_done(folder: Path) -> int:
    from jaxmlp import MLP
    from jaxmlp.checkpoint import load_training

    path = folder / "checkpoint.safetensors"
    return len(load_training(path, MLP((64, 128, 10))).history) if path.exists() else 0


def run_and_kill(folder: Path, after: float) -> bool:
    """Start or resume the run, kill it after some seconds; tell whether it was still running."""
    process = subprocess.Popen(command(folder, "--resume"))
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        reference, killed = Path(name, "reference"), Path(name, "killed")
        start = time.monotonic()
        subprocess.run(command(reference), check=True)
        seconds, expected = time.monotonic() - start, digest(reference)
        print(f"nobody killed the first run: {seconds:.1f} s, model {expected}")
        hits = ends = same = 0
        while hits < arguments.kills or ends == 0 or killed.exists():
            after = moments.uniform(0, 0.8 * seconds) if hits < arguments.kills else 1e6
            if run_and_kill(killed, after):
                hits += 1
                print(f"  kill {hits:2} after {after:4.1f} s, with {epochs_done(killed)} epochs kept", flush=True)
                continue
            ends += 1
            same += digest(killed) == expected
            print(f"  came to its end: model {digest(killed)}", flush=True)
            shutil.rmtree(killed)
    print(f"{hits} kills; {same} of {ends} resumed runs ended in the very same file")
    sys.exit(same != ends)


if __name__ == "__main__":
    main()
