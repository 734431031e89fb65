"""How Sphinx builds these pages. Nothing is fetched: no inventory of another project, no script, no font."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from flowvi import __version__

project = "flowvi"
author = "The flowvi developers"
project_copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "offline",
    "prose",
    "rooms",
]
exclude_patterns = ["_static/**"]
if find_spec("flowvi.inference.supports") is None:
    exclude_patterns.append("api/supports.md")

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

default_role = "literal"  # the docstrings write `log_q` for code
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}  # pydantic's own
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a dataclass's attributes are told once
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
add_module_names = False

nitpicky = True
nitpick_ignore_regex = [
    # Other projects': their inventories would have to be fetched.
    (r"py:.*", r"(torch|numpy|np|pydantic|collections|pathlib|os|typing|xarray)\..*"),
    # torch's and Python's by the name that an annotation uses, where only a type checker imports it.
    (r"py:class", r"(Tensor|Size|Any|Callable|nn\.Module|Path)"),
]

html_theme = "furo"
html_title = f"flowvi {version}"
html_static_path = ["_static"]
html_copy_source = False
html_show_sourcelink = False
templates_path: list[str] = []

mathjax_path = "mathjax/tex-svg.js"
# The menu's settings can load accessibility tools from elsewhere.
mathjax3_config = {"options": {"enableMenu": False}}
