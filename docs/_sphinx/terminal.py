"""The directive `terminal`: runs a command of a page and shows it with what it prints.

All commands of a page run in one empty folder, which has a link to the data of the experiments. A command that fails
ends the build.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]


class Terminal(SphinxDirective):
    """Run each line; `picture` is a file that they write, `alt` says what it shows."""

    has_content = True
    option_spec: ClassVar = {"picture": directives.unchanged, "alt": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Return the block of text, and the picture."""
        folder = _folder(self.env)
        shown = "\n".join(f"$ {line}\n{self._output(line, folder)}".rstrip() for line in self.content)
        block = nodes.literal_block(shown, shown, language="console")
        return [block, *self._picture(folder)]

    def _output(self, line: str, folder: Path) -> str:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        settings = {"PATH": programs, "COLUMNS": "100", "NO_COLOR": "1", "MPLBACKEND": "agg", "PYTHONUNBUFFERED": "1"}
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        ended = subprocess.run(line, shell=True, cwd=folder, env=os.environ | settings, timeout=180, **both)
        if ended.returncode:
            raise self.error(f"{line}: exit code {ended.returncode}: {ended.stdout}")
        return ended.stdout

    def _picture(self, folder: Path) -> list[nodes.Node]:
        if "picture" not in self.options:
            return []
        made = folder / self.options["picture"]
        name = f"{self.env.docname.replace('/', '-')}-{self.lineno}{made.suffix}"
        kept = Path(self.env.app.outdir) / "_images" / name
        kept.parent.mkdir(exist_ok=True)
        shutil.copy(made, kept)
        up = "../" * self.env.docname.count("/")
        image = f'<img src="{up}_images/{name}" alt="{self.options["alt"]}" width="560">'
        return [nodes.raw("", image, format="html")]


def _folder(env: Any) -> Path:
    """Return the folder of the page that is read."""
    if "terminal_folder" not in env.temp_data:
        folder = Path(env.doctreedir, "terminal", env.docname)
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier build
        folder.mkdir(parents=True)
        (folder / "data").symlink_to(ROOT / "experiments" / "data")
        env.temp_data["terminal_folder"] = folder
    return env.temp_data["terminal_folder"]


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("terminal", Terminal)
    return {"parallel_read_safe": True}
