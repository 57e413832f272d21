"""Executed notebooks as web pages that need no network and no Jupyter.

nbconvert draws the page; what it leaves to a content-delivery network or leaves out
(formulas, alternative texts, links between pages) is put right here.
"""

from __future__ import annotations

import html
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup
from jinja2 import pass_context
from latex2mathml.converter import convert as to_mathml
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from clepdg_lib.files import write_atomically

STYLE = """
main, nav, .course { max-width: 62rem; margin: 0 auto; padding: 0 1rem; }
nav { display: flex; gap: 1.5rem; justify-content: space-between; padding: 1rem;
  font-family: system-ui, sans-serif; }
nav a[rel=prev]::before { content: "← "; } nav a[rel=next]::after { content: " →"; }
nav a, .course a { color: #0b57a4; text-decoration: underline; }
.course { font-family: system-ui, sans-serif; line-height: 1.5; }
.course table { border-collapse: collapse; width: 100%; }
.course th, .course td { text-align: left; padding: .5rem; vertical-align: top;
  border-bottom: 1px solid #ccc; }
img { max-width: 100%; height: auto; }
math { font-size: 1.1em; }
/* What Jupyter's theme leaves too pale to read, or tells by colour alone. */
.jp-InputPrompt, .jp-OutputPrompt { color: #4a4a4a !important; opacity: 1 !important; }
.jp-RenderedHTMLCommon a:link { text-decoration: underline !important; }
.highlight .c, .highlight .c1, .highlight .ch { color: #2b6464 !important; }
.highlight .o, .highlight .ow { color: #7b12b8 !important; }
.highlight .nn, .highlight .nf, .highlight .nc { color: #0000c0 !important; }
.highlight .mi, .highlight .mf, .highlight .si { color: #006400 !important; }
"""


@dataclass(frozen=True)
class Entry:
    """A line of the course's index."""

    name: str
    title: str
    promise: str
    seconds: float
    failure: str = ""


def find_title(notebook: NotebookNode, *, default: str = "") -> tuple[str, str]:
    """Title and promise: the first H1, and the goals in the box under it.

    A notebook without a box promises its first plain paragraph.

    Example:
        >>> from nbformat.v4 import new_markdown_cell, new_notebook
        >>> cell = new_markdown_cell("# Hear it\\n\\n> 1. **listen**;\\n> 2. **see**.")
        >>> find_title(new_notebook(cells=[cell]))
        ('Hear it', 'Listen; see.')
    """
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    heading = re.search(r"^# +(.+)$", text, flags=re.MULTILINE)
    if not heading:
        return default, ""
    title = _plain(heading[1])
    if goals := re.findall(r"^> *\d+\. +(.+)$", text, flags=re.MULTILINE):
        promise = "; ".join(_plain(goal).rstrip(" ;.") for goal in goals) + "."
        return title, promise[0].upper() + promise[1:]
    for paragraph in re.split(r"\n\s*\n", text[heading.end() :]):
        paragraph = paragraph.strip()
        if paragraph.startswith("#"):
            break
        if paragraph and not paragraph.startswith((">", "|", "-", "*", "<", "!", "[")):
            return title, _plain(paragraph)
    return title, ""


def write_page(
    notebook: NotebookNode,
    path: Path,
    *,
    source: Path,
    before: Entry | None = None,
    after: Entry | None = None,
) -> Path:
    """Write one notebook as one HTML file that stands alone.

    Args:
        notebook: Executed.
        path: Of the page.
        source: Of the notebook; its relative links and images start from there.
        before: The lesson before, if any.
        after: The lesson after, if any.
    """
    exporter = _PageExporter(embed_images=True, exclude_anchor_links=True)
    resources = {"metadata": {"path": str(source.parent), "name": source.stem}}
    body, _ = exporter.from_notebook_node(notebook, resources=resources)
    page = BeautifulSoup(body, "html.parser")
    for script in page.select("head script, head link"):
        script.decompose()  # RequireJS, MathJax, Mermaid: from a network, not needed
    page.title.string = find_title(notebook, default=source.stem)[0]
    style = page.new_tag("style")
    style.string = STYLE
    page.head.append(style)
    _describe_images(page, notebook)
    for link in page.select("a[href]"):
        link["href"] = _relink(link["href"], source=source, page=path)
    # Two landmarks of one kind need two names.
    top = _navigation("Course", before=before, after=after)
    page.body.insert(0, BeautifulSoup(top, "html.parser"))
    end = _navigation("Course, at the end", before=before, after=after)
    page.body.append(BeautifulSoup(end, "html.parser"))
    return write_atomically(path, str(page))


def write_index(entries: list[Entry], folder: Path) -> Path:
    """Write the page that lists all lessons with their measured minutes."""
    rows = ""
    for entry in entries:
        state = f"failed: {entry.failure}" if entry.failure else "ran"
        rows += (
            f'<tr><td><a href="{entry.name}.html">{html.escape(entry.title)}</a></td>'
            f"<td>{html.escape(entry.promise)}</td>"
            f"<td>{entry.seconds / 60:.1f}</td><td>{html.escape(state)}</td></tr>\n"
        )
    total = sum(entry.seconds for entry in entries) / 60
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>CLEP-DG: the course</title><style>{STYLE}</style></head>
<body><main class="course"><h1>CLEP-DG: the course</h1>
<p>An independent implementation written from the abstract of the paper; the settings
are ours. All pages were made by running the notebooks, {total:.1f} minutes in all.</p>
<table><thead><tr><th scope="col">Lesson</th>
<th scope="col">What you will be able to do</th>
<th scope="col">Minutes it ran</th><th scope="col">State</th></tr></thead>
<tbody>
{rows}</tbody></table></main></body></html>
"""
    return write_atomically(folder / "index.html", page)


class _Renderer(IPythonRenderer):
    """Markdown to HTML, formulas to MathML, which browsers draw by themselves."""

    def block_html(self, source: str) -> str:
        """Leave HTML as it stands: parsed alone, a <details> that goes on below a
        blank line is closed there, and the solution lies open."""
        return source

    def block_math(self, body: str) -> str:
        return _formula(body, display="block")

    def inline_math(self, body: str) -> str:
        return _formula(body, display="inline")

    def latex_environment(self, name: str, body: str) -> str:
        inner = rf"\begin{{{name}}}{body}\end{{{name}}}"
        return _formula(inner, display="block")


class _PageExporter(HTMLExporter):
    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        cell = context.get("cell", {})
        renderer = _Renderer(
            escape=False,
            attachments=cell.get("attachments", {}),
            embed_images=self.embed_images,
            path=context.get("resources", {}).get("metadata", {}).get("path", ""),
            exclude_anchor_links=self.exclude_anchor_links,
        )
        return MarkdownWithMath(renderer=renderer).render(source)


def _formula(latex: str, *, display: str) -> str:
    try:
        return to_mathml(latex.strip(), display=display)
    except Exception:  # the converter raises many kinds; the source is still readable
        return f"<code>{html.escape(latex.strip())}</code>"


def _describe_images(page: BeautifulSoup, notebook: NotebookNode) -> None:
    """Copy the alternative texts of outputs to their pictures."""
    texts = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind, about in output.get("metadata", {}).items():
                if kind.startswith("image/") and isinstance(about, dict):
                    content = "".join(output.get("data", {}).get(kind, "").split())
                    texts[content] = about.get("alt")
    for image in page.select("img[src]"):
        content = "".join(image["src"].partition("base64,")[2].split())
        if texts.get(content):
            image["alt"] = texts[content]


def _relink(href: str, *, source: Path, page: Path) -> str:
    """Point a notebook's relative link to where it leads from its page."""
    parts = urlsplit(href)
    if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
        return href
    target = (source.parent / unquote(parts.path)).resolve()
    anchor = f"#{parts.fragment}" if parts.fragment else ""
    if target.suffix == ".ipynb" and target.parent == source.parent.resolve():
        return f"{target.stem}.html{anchor}"
    relative = os.path.relpath(target, page.parent.resolve())
    return Path(relative).as_posix() + anchor


def _navigation(name: str, *, before: Entry | None, after: Entry | None) -> str:
    def link(entry: Entry | None, rel: str) -> str:
        if entry is None:
            return "<span></span>"
        title = html.escape(entry.title)
        return f'<a href="{entry.name}.html" rel="{rel}">{title}</a>'

    index = '<a href="index.html">All lessons</a>'
    links = link(before, "prev") + index + link(after, "next")
    return f'<nav aria-label="{name}">{links}</nav>'


def _plain(markdown: str) -> str:
    """Markdown without its marks, on one line."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    return " ".join(re.sub(r"[*`]|(?<!\w)_|_(?!\w)", "", text).split())
