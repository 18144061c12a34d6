"""The site's reference has every public name, once, and nothing else. Sphinx is not needed here: the build needs it."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import jaxmlp

DOCS = Path(__file__).parents[1] / "docs"
TEXT = "\n".join(page.read_text() for page in sorted(DOCS.glob("reference/*.md")))
NAMES = re.findall(r"^\.\. auto(?!module)\w+:: (\S+)", TEXT, re.MULTILINE)

# Pages that `measured/index` lists.
MEASURED = ("benchmarks", "experiments", "records", "tables")

# Public modules that the stub does not show: one is named like a function, one needs an extra.
OTHERS = ("jaxmlp.backpropagation", "jaxmlp.estimators")


def offered(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield the public names of a module with what they stand for; other modules are not among them."""
    for name in module.__all__:
        if not isinstance(value := getattr(module, name), ModuleType):
            yield f"{module.__name__}.{name}", value


def public() -> dict[str, object]:
    """Return every public name: of `jaxmlp`, and of the modules and packages that its stub shows."""
    shown = [getattr(jaxmlp, name) for name in jaxmlp.__all__]
    modules = [jaxmlp, *(one for one in shown if isinstance(one, ModuleType)), *map(import_module, OTHERS)]
    return dict(pair for module in modules for pair in offered(module))


def found(name: str) -> object:
    module, _, leaf = name.rpartition(".")
    return getattr(import_module(module), leaf)


def test_the_reference_has_every_public_name():
    documented = {id(found(name)) for name in NAMES}
    assert [name for name, value in public().items() if id(value) not in documented] == []


def test_the_reference_has_no_name_that_is_not_public():
    # The pytest plugin offers its fixture to pytest, not to `import jaxmlp`.
    assert sorted(set(NAMES) - set(public())) == ["jaxmlp.pytest_plugin.assert_gradient"]


def test_the_reference_has_each_thing_once_under_its_shortest_name():
    assert len(set(NAMES)) == len(NAMES)
    shortest: dict[int, str] = {}
    for name, value in sorted(public().items(), key=lambda pair: pair[0].count(".")):
        shortest.setdefault(id(value), name)
    # Numbers and texts may be one object under two names.
    kept = [name for name in NAMES if name in public() and callable(found(name))]
    assert [name for name in kept if shortest[id(found(name))] != name] == []


def test_the_map_for_machines_has_every_page_and_no_other():
    mapped = re.findall(r"\]\(([\w./]+)\.html\)", (DOCS / "llms.txt").read_text())
    pages = [page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")]
    missing = [page for page in pages if page not in mapped]
    assert sorted(missing) == ["index", *(f"measured/{name}" for name in MEASURED)]
    assert sorted(set(mapped) - set(pages)) == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_a_link_to_a_file_of_the_repository_leads_to_one(page):
    for target in re.findall(r"(?:literalinclude\} |image::? |include\} |\]\()((?:\.\./)+[\w./-]+)", page.read_text()):
        assert (page.parent / target).exists(), target
