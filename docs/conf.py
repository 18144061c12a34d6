"""The site: `python -m sphinx -W -n docs build`. Nothing is fetched, neither by the build nor by a reader's browser."""

import os
import sys
from pathlib import Path

import jaxmlp

sys.path.insert(0, str(Path(__file__).parent / "_sphinx"))
os.environ |= {"JAX_PLATFORMS": "cpu", "DATA": str(Path(__file__).parents[1] / "experiments/data")}

project = "jaxmlp"
author = copyright = "The jaxmlp authors"
version = release = jaxmlp.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "docstrings",
    "mathml",
    "measured",
    "terminal",
]
exclude_patterns = ["_sphinx"]

html_theme = "furo"
html_title = "jaxmlp"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["llms.txt"]
html_show_sphinx = False
html_copy_source = False

# Pages with code are executed anew by each build: what they print is what this version prints.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_ipywidgets_js = {}  # would come from another host
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
maximum_signature_line_length = 100
python_use_unqualified_type_names = True
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_attr_annotations = False
napoleon_custom_sections = [("Attributes", "params_style")]

# What is not ours is not looked up: that would need the network.
nitpick_ignore_regex = [(r"py:.*", r"(?!jaxmlp\b).*")]
