"""Pages of the experiments, shown from their files, and tables of results, made from the JSON files.

A line `@include FILE` of a page stands for a Markdown file of the repository, without its first heading, and
`@include FILE # HEADING` for one of its sections. Its links to pages that the site has lead to these, to pictures show
them, and to other files download them; a file that is not there ends the build. `@results` stands for the table of all
results, and `@claims NAME # WORDS` for those claims of a result that begin with these words.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
_PAGES = {
    "experiments/README.md": "measured/experiments",
    "experiments/benchmarks/README.md": "measured/benchmarks",
    "experiments/benchmarks/tables.md": "measured/tables",
    "experiments/records/README.md": "measured/records",
}


def setup(app: Any) -> dict[str, bool]:
    """Connect to the reading of pages."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}


def _read(app: Any, page: str, source: list[str]) -> None:
    here = Path(app.srcdir, page).parent

    def made(match: re.Match[str]) -> str:
        what, name, part = match.groups()
        if what == "results":
            return _results(here)
        path = ROOT / name if what == "include" else EXPERIMENTS / f"results/{name}.json"
        app.env.note_dependency(str(path))
        return _text(path, part, here) if what == "include" else _claims(path, part)

    pattern = r"^@(include|results|claims)(?: (\S+))?(?: # (.+))?$"
    source[0] = re.sub(pattern, made, source[0], flags=re.MULTILINE)


def _text(path: Path, heading: str | None, here: Path) -> str:
    text = path.read_text().partition("\n")[2]  # the page has a heading of its own
    if heading is not None:
        text = f"\n{text}".split(f"\n## {heading}\n")[1].partition("\n## ")[0]
    return re.sub(r"(!?)\[([^]]*)\]\(([^)#:]+)\)", lambda match: _link(*match.groups(), path.parent, here), text)


def _link(mark: str, words: str, target: str, folder: Path, here: Path) -> str:
    path = Path(os.path.normpath(folder / target))
    if not path.exists():
        raise FileNotFoundError(f"{folder}: a link to {target}, which is not there")
    if (page := _PAGES.get(str(path.relative_to(ROOT)))) is not None:
        return f"{{doc}}`{words} </{page}>`"
    if path.is_dir():
        return words
    return f"![{words}]({_from(here, path)})" if mark else _download(words, here, path)


def _from(here: Path, path: Path) -> str:
    return os.path.relpath(path, here)


def _download(words: str, here: Path, path: Path) -> str:
    return f"{{download}}`{words} <{_from(here, path)}>`"


def _claims(path: Path, words: str | None) -> str:
    rows = [f"| {words or 'claim'} | measured | |", "| --- | --- | --- |"]
    for one in json.loads(path.read_text())["claims"]:
        if one["claim"].startswith(words or ""):
            verdict = "reached" if one["reached"] else "not reached"
            rows.append(f"| {one['claim'].removeprefix(words or '').lstrip(':, ')} | {one['measured']} | {verdict} |")
    if len(rows) == 2:
        raise ValueError(f"{path.name} has no claim that begins with {words!r}")
    return "\n".join(rows)


def _results(here: Path) -> str:
    rows = ["| result | command | device | JAX | date |", "| --- | --- | --- | --- | --- |"]
    for path in sorted(EXPERIMENTS.glob("results/*.json")):
        about = json.loads(path.read_text())["environment"]
        name = path.stem.replace("_", " ")
        cells = (_download(name, here, path), _command(path.stem), about["device"], about["jax"], about["date"])
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _command(name: str) -> str:
    """Return the command of a result, by the name of its script: `checking_costs` is of `checking`."""
    for stem in (name, name.partition("_")[0]):
        for pattern in (f"claims/{stem}.py", f"benchmarks/{stem}.py", f"{stem}.py", f"{stem}/__main__.py"):
            if (EXPERIMENTS / pattern).exists():
                module = pattern.removesuffix(".py").removesuffix("/__main__").replace("/", ".")
                return f"`python -m experiments.{module}`"
    raise FileNotFoundError(f"results/{name}.json has no script of its name")
