"""Endings of file names: capital letters change nothing, in any command and from Python."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from jaxmlp.data import read

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2))
Y = (X[:, 0] > 0).astype(int)
FRAME = pl.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": Y})
WRITERS = {
    "csv": FRAME.write_csv,
    "parquet": FRAME.write_parquet,
    "npz": lambda path: np.savez(path, x=X, y=Y),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_capital_letters_in_a_file_ending_change_nothing(kind, jaxmlp, tmp_path):
    plain = tmp_path / f"data.{kind}"
    WRITERS[kind](plain)
    target = [] if kind == "npz" else ["--target", "y"]
    assert jaxmlp("train", str(plain), *target, "--epochs", "1", "--out", "run").code == 0
    commands = (["train", *target, "--epochs", "1"], ["evaluate", "run"], ["predict", "run"], ["examples", "run"])
    answers = {}
    for ending in (kind, kind.upper(), kind.title()):
        path = tmp_path / f"data.{ending}"
        if not path.exists():
            shutil.copy(plain, path)
        found = read(path, target=target[-1] if target else None).x
        assert np.array_equal(np.asarray(found).astype(float), X)
        answers[ending] = []
        for number, (command, *arguments) in enumerate(commands):
            where = [] if command == "evaluate" else ["--out", f"{ending}{number}"]
            ordered = [*arguments[:1], str(path)] if arguments[:1] == ["run"] else [str(path), *arguments]
            done = jaxmlp(command, *ordered, *where, "--json")
            assert (done.code, done.err) == (0, "")
            answer = json.loads(done.out)
            answers[ending].append({name: answer[name] for name in answer if name not in ("out", "seconds", "source")})
    assert answers[kind] == answers[kind.upper()] == answers[kind.title()]
