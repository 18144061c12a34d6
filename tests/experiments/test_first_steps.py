"""The notebook runs from top to bottom, and what it shows is what comes out.

`jupyter execute --inplace experiments/first_steps.ipynb` stores its outputs anew.
"""

import os
import re
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "first_steps.ipynb"
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]\d+)?")


@pytest.fixture(scope="module")
def stored():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_small_and_in_ten_cells(stored):
    assert NOTEBOOK.stat().st_size < 100_000
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, 11))
    assert all(cell.outputs for cell in code)


def test_what_it_shows_is_what_comes_out(stored, tmp_path):
    fresh = deepcopy(stored)
    # Errors in its cells, but not in the kernel that ends afterwards.
    first, last = map(
        nbformat.v4.new_code_cell, ("import warnings; warnings.simplefilter('error')", "warnings.resetwarnings()")
    )
    fresh.cells = [first, *fresh.cells, last]
    client = NotebookClient(fresh, timeout=300, resources={"metadata": {"path": tmp_path}})
    client.execute(env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"})  # it compiles for longer than it runs
    for before, after in zip(stored.cells, fresh.cells[1:-1], strict=True):
        if before.cell_type == "code":
            assert _kinds(after.outputs) == _kinds(before.outputs)
            _assert_alike(_text(before.outputs), _text(after.outputs))


def test_texts_are_alike_up_to_the_rounding_of_numbers():
    _assert_alike("accuracy 97.4%, off by 1.3e-15", "accuracy 97.3%, off by 2.1e-16")
    for other in ("accuracy 91.4%, off by 1.3e-15", "loss 97.4%, off by 1.3e-15", "accuracy 97.4%, off by 1.3e-3"):
        with pytest.raises(AssertionError):
            _assert_alike("accuracy 97.4%, off by 1.3e-15", other)


def _kinds(outputs):
    return {(output.output_type, output.get("name"), *sorted(output.get("data", ()))) for output in outputs}


def _text(outputs):
    """Return all text of a cell; what is printed may come in several parts."""
    return "".join(output.get("text") or output.data["text/plain"] for output in outputs)


def _assert_alike(shown: str, came: str) -> None:
    """Compare words exactly and numbers to 5 %: other versions round otherwise, and training carries that on."""
    assert NUMBER.sub("0", came).split() == NUMBER.sub("0", shown).split()
    numbers = [list(map(float, NUMBER.findall(text))) for text in (shown, came)]
    # Below 1e-6 they are errors of rounding, of any size.
    assert numbers[1] == pytest.approx(numbers[0], rel=0.05, abs=1e-6)
