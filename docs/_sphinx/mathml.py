"""Formulas as MathML, which browsers draw and screen readers read: no script and no font is fetched."""

from typing import Any

from docutils.nodes import Element, SkipNode
from docutils.utils.math.latex2mathml import tex2mathml


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(self: Any, node: Element) -> None:
    self.body.append(tex2mathml(node.astext()))
    raise SkipNode


def _block(self: Any, node: Element) -> None:
    name = f' id="{node["ids"][0]}"' if node["ids"] else ""
    self.body.append(f'<div class="math"{name}>{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode
