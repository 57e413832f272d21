"""Settings of the book: Sphinx reads this file (`make book`).

One setting comes from outside: `CLEPDG_REPOSITORY`, the address of the repository on
GitHub. Where it is set, pages link to it and lessons have buttons for Binder and Colab.
"""

import base64
import hashlib
import os
import re
from pathlib import Path

import nbformat
from docutils import nodes

import clepdg_lib

REPOSITORY = os.environ.get("CLEPDG_REPOSITORY", "").rstrip("/")

project = "CLEP-DG, rebuilt in an afternoon"
author = "The authors of the CLEP-DG course"
version = release = clepdg_lib.__version__
language = "en"
root_doc = "index"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
extensions += ["sphinx.ext.mathjax"]
mathjax_path = "mathjax/tex-chtml.js"  # course.py copies it from a package

# Notebooks come executed (course.py); headings can be linked to as on GitHub.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say shapes and units; signatures stay short
default_role = "py:obj"  # `name` in a docstring is a link where there is one

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
html_theme_options = {
    "navbar_persistent": [],  # or there are two fields to search in
    "show_toc_level": 2,
    "use_download_button": True,
}
if REPOSITORY:
    html_theme_options |= {
        "repository_url": REPOSITORY,
        "repository_branch": "main",
        "use_repository_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }


def link_data_sheets(app, docname, source):
    """Let a link to a folder of data, which is right elsewhere, open its page."""
    source[0] = re.sub(r"(\]\((\.\./)+data/[\w/-]+?)/?\)", r"\1/README.md)", source[0])


def describe_images(app, doctree):
    """Give the images of outputs their alternative texts, which myst-nb drops."""
    file = Path(app.env.doc2path(app.env.docname))
    if file.suffix != ".ipynb":
        return
    alts = {}  # the beginning of a file's name, which is made from its content -> text
    for cell in nbformat.read(file, as_version=4).cells:
        for output in cell.get("outputs", []):
            for kind, about in output.get("metadata", {}).items():
                if "alt" in about:
                    content = base64.b64decode(output.data[kind])
                    alts[hashlib.sha256(content).hexdigest()] = about["alt"]
    for image in doctree.findall(nodes.image):
        image["alt"] = alts.get(Path(image["uri"]).stem) or image.get("alt", "")


def open_copies_in_colab(app, pagename, templatename, context, doctree):
    """Let Colab open the copies whose first cell installs the course."""
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if button.get("text") == "Colab":
                there = button["url"].replace("/blob/main/", "/blob/gh-pages/colab/")
                button["url"] = there


def setup(app):
    # On disk a page may not read others, so there are no lines from what was found.
    lines = 'DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = location.protocol != "file:"'
    app.add_js_file(None, body=lines)
    app.connect("source-read", link_data_sheets)
    app.connect("doctree-read", describe_images)
    # After the theme's own function, which has the priority 501.
    app.connect("html-page-context", open_copies_in_colab, priority=502)
