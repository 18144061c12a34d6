"""Properties of all benchmarks: options, turns, verdicts, and results that only whole runs replace."""

import json
from importlib import import_module
from math import nan
from pathlib import Path
from typing import NamedTuple

import pytest

from experiments import _timing
from experiments._timing import in_turn, median_ratio, turn_of
from experiments.benchmarks import _benchmark
from experiments.benchmarks._benchmark import Verdict, begin, finish, installed, options, parser
from experiments.benchmarks.gradients.faults import FAULTS

BENCHMARKS = sorted(path.stem for path in Path(_benchmark.__file__).parent.glob("[!_]*.py"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_shows_its_help(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        import_module(f"experiments.benchmarks.{name}").main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m experiments.benchmarks.{name} ")


def _asked(*arguments):
    made = parser("race", None, quick="less", rounds=5, data="random data", cases=("a", "b"), peers=("c", "d"))
    return options(made, arguments)


@pytest.mark.parametrize("part", ["--quick", "--cases=a", "--peers=d", ""])
def test_a_part_of_a_benchmark_never_replaces_its_results(part, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_benchmark, "RESULTS", tmp_path / "results")
    arguments = [part, f"--data={tmp_path}"] if part else []  # without data all cases and peers are still a part
    assert not finish(_asked(*arguments), {}, [])
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.json")] == [Path("runs/benchmarks/race.json")]
    assert finish(_asked(f"--data={tmp_path}"), {}, [])
    assert (tmp_path / "results" / "race.json").exists()
    assert "All of the benchmark was run" in capsys.readouterr().out


def test_results_hold_the_environment_the_values_and_the_claims(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = _asked("--rounds=7")
    about = begin(asked)
    verdicts = [Verdict("faster", "0.9", False, undisturbed=False), Verdict("smaller", "2 MB", True)]
    finish(asked, about, verdicts, seconds={"a": [0.5, nan]})
    written = json.loads((tmp_path / "runs" / "benchmarks" / "race.json").read_text())
    assert written["environment"]["rounds"] == "7"
    assert written["environment"]["data"] == "random data"
    assert written["seconds"] == {"a": [0.5, None]}
    assert [claim["reached"] for claim in written["claims"]] == [False, True]
    printed = capsys.readouterr().out
    assert "| faster | 0.9 | NOT reached, on a busy machine |" in printed
    assert "| smaller | 2 MB | reached |" in printed


@pytest.mark.parametrize("argument", ["--rounds=0", "--data=nowhere", "--peers=e"])
def test_a_wrong_option_is_one_line(argument, capsys):
    with pytest.raises(SystemExit) as ended:
        _asked(argument)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


class _Peer(NamedTuple):
    title: str
    modules: tuple[str, ...]


def test_a_peer_that_is_not_installed_is_left_out_with_its_install_line(capsys):
    peers = {"here": _Peer("Here", ("json.decoder",)), "absent": _Peer("Absent", ("json", "no_such_package.part"))}
    assert installed(peers, peers) == ["here"]
    printed = capsys.readouterr().out
    assert printed == "Absent is left out: no_such_package is not installed, try: pip install 'jaxmlp[bench]'\n"


def test_tasks_take_turns_round_by_round():
    order = []
    timed = in_turn({name: lambda name=name: order.append(name) or float(len(order)) for name in "ab"}, 3)
    assert order == list("ababab")
    assert timed["b"].values == [2.0, 4.0, 6.0]
    assert len(timed["a"].seconds) == 3


def test_a_turn_returns_the_seconds_of_one_of_many_calls(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_timing, "perf_counter", lambda: now[0])
    calls = []

    def call():
        calls.append(now[0])
        now[0] += 0.01

    turn = turn_of(call, seconds=0.2)
    calls.clear()
    assert turn() == pytest.approx(0.01)
    assert len(calls) == 20


def test_a_ratio_is_the_median_of_the_ratios_within_rounds():
    assert median_ratio([3.0, 30.0, 1.0], [1.0, 10.0, 5.0]) == 3.0  # the ratio of the medians is 0.6


def test_planted_faults_have_names_of_their_own():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
