"""What `import jaxmlp` offers, and what it costs."""

import ast
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import jaxmlp


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_every_name_that_is_offered_exists():
    for name in jaxmlp.__all__:
        assert getattr(jaxmlp, name) is not None, name
        assert name in dir(jaxmlp)


def test_type_checkers_are_shown_the_very_names_that_are_offered():
    tree = ast.parse(Path(jaxmlp.__file__).with_suffix(".pyi").read_text())
    shown = [alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(shown) == sorted(jaxmlp.__all__)


def test_no_function_hides_the_module_of_its_name():
    names = [module.name for module in pkgutil.walk_packages(jaxmlp.__path__, "jaxmlp.")]
    for name in names:
        if not name.endswith("__main__"):  # which runs the terminal
            module, (parent, _, leaf) = import_module(name), name.rpartition(".")
            assert getattr(import_module(parent), leaf) is module, name


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(jaxmlp, "no_such_name")


def test_importing_jaxmlp_imports_nothing_else():
    names = ("jax", "numpy", "scipy", "sklearn", "jaxmlp.estimators")
    code = f"import sys; import jaxmlp; print([name for name in {names} if name in sys.modules])"
    assert run_python(code) == "[]\n"


def test_the_core_needs_none_of_the_extras():
    # None in sys.modules makes an import fail as if the package were not installed.
    code = """
import sys
for name in ("rich", "sklearn", "polars", "matplotlib", "platformdirs", "chex", "scipy.special"):
    sys.modules[name] = None
import jax, numpy as np, jaxmlp
data = jaxmlp.Dataset(np.eye(4), np.array([0, 1, 1, 0]))
config = jaxmlp.TrainConfig(epochs=1, batch_size=2)
print(len(jaxmlp.train(jaxmlp.MLP((4, 3, 2)), data, config, key=jax.random.key(0), test=data).history))
"""
    assert run_python(code) == "1\n"


def test_import_leaves_jax_as_it_was():
    code = """
import jax
before = dict(jax.config.values)
import jaxmlp, jaxmlp.training, jaxmlp.cli.train
print(dict(jax.config.values) == before)
"""
    assert run_python(code) == "True\n"


def test_type_information_is_installed_with_the_package():
    assert (Path(jaxmlp.__file__).parent / "py.typed").exists()


def test_the_documented_modules_need_no_import_of_their_own():
    code = "import jaxmlp; print(jaxmlp.training.train is jaxmlp.train, jaxmlp.sgd.init is not jaxmlp.init)"
    assert run_python(code) == "True True\n"
