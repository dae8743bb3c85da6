"""How the site is built (`make docs`): every Markdown page of the repository, and references made from the code.

The root of the repository is the source folder, so that a link between any two pages is one that the build checks.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_site")]

import references  # noqa: E402

project = "chaoslab"
author = "the chaoslab developers"
copyright = author
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "benchmarks/*.md", "data/*/*.md"]
exclude_patterns = [".*", "build", "campaigns", "docs/_site"]
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!chaoslab\.).*"),  # types of other packages: their pages are elsewhere
    (r"py:.*", r"chaoslab\.scenario\..*"),  # parts of a scenario file, which has a page of its own
]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_copybutton"]
default_role = "code"
smartquotes = False  # they would make one dash of the two of an option
myst_heading_anchors = 3
myst_links_external_new_tab = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 88
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"

html_theme = "furo"
html_title = "chaoslab"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path = ["_site/top"]
html_show_search_summary = False  # pages from disk may not fetch one another
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"top_of_page_buttons": []}


def setup(app: Sphinx) -> None:
    """Fill the pages as they are read."""
    app.connect("source-read", references.fill)
    app.connect("missing-reference", references.public_name)
