"""Write measured results into the pages that quote them, so that no figure is typed.

    python notebooks/build/results.py                        # fill the pages
    python notebooks/build/results.py build/benchmark.json   # store it, and fill them

A page holds a pair of comments, `<!-- results:NAME -->` and `<!-- /results:NAME -->`;
what stands between them is made from the rows of `data/results/NAME.json`: scores by
method and test corpus, by severity where rows have one, or any other table as it is.
`headline` is a few methods of `loco` and `shift` side by side; `map` lists the lessons.
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import nbformat
import pandas as pd

from clepdg_lib.course.lesson import LESSONS
from clepdg_lib.files import PROJECT, MissingFileError, write_atomically
from course import find_title

NAMES = ("EMO-DB", "RAVDESS", "TESS", "nEMO", "EmoTale")
CORPORA = {name.replace("-", "").lower(): name for name in NAMES}
# What the front page shows: references, the steps of the method, its controls.
HEADLINE = ("egemaps-lr", "audio-probe", "clap-zero-shot", "text-classifier")
HEADLINE += ("latent-random", "latent-shuffled", "clep-dg", "real-places")
BLOCK = re.compile(
    r"(?P<head><!-- results:(?P<name>[\w-]+) -->\n)(?P<body>.*?)"
    r"(?P<tail><!-- /results:(?P=name) -->)",
    flags=re.DOTALL,
)


def find_pages(project: Path = PROJECT) -> list[Path]:
    """Return the pages that may quote results."""
    places = ("README.md", "data/**/README.md", "notebooks/pages/*.md")
    return [page for place in places for page in sorted(project.glob(place))]


def fill_page(text: str, *, project: Path = PROJECT) -> str:
    """Return a page with the results in every block; each needs its JSON file."""
    n_markers = len(re.findall(r"<!-- /?results:", text))
    if n_markers != 2 * len(BLOCK.findall(text)):
        pair = "'<!-- results:NAME -->' and '<!-- /results:NAME -->'"
        raise ValueError(f"a results marker lacks its partner; a block is {pair}")

    def fill(block: re.Match) -> str:
        return block["head"] + render(block["name"], project=project) + block["tail"]

    return BLOCK.sub(fill, text)


def render(name: str, *, project: Path = PROJECT) -> str:
    """Return the block of one name: Markdown that ends with a line break."""
    if name == "map":
        return _lessons(project / "notebooks")
    if name == "headline":
        both = [_read(each, project=project)["rows"] for each in ("loco", "shift")]
        rows = _inductive(both[0] + both[1])
        rows = rows.assign(seed=0)  # means alone: spreads stand on the results page
        rows = rows[rows["method"].isin(HEADLINE)]
        return _severities(
            rows.sort_values("method", key=lambda m: m.map(HEADLINE.index))
        )
    result = _read(name, project=project)
    rows = pd.DataFrame(result["rows"])
    if "block" in rows:
        means = rows[rows["severity"] > 0].pivot_table("uar", "block", "method")
        order = list(dict.fromkeys(rows["method"]))
        return write_table(means[order].add_prefix("`").add_suffix("`").reset_index())
    if not {"method", "test", "uar", "seed"} <= set(rows):
        return write_table(rows.drop(columns=["made_with", "figure"], errors="ignore"))
    parts = [_severities(rows)] if "severity" in rows else _scores(rows)
    if result.get("comparisons"):
        parts += ["**Differences of UAR** on the same clips, with 95 % intervals:\n"]
        parts += [_comparisons(pd.DataFrame(result["comparisons"]))]
    return "\n".join(parts)


def write_pages(*, project: Path = PROJECT) -> tuple[list[Path], list[str]]:
    """Fill all pages; return those that changed, and the problems of the others."""
    changed, problems = [], []
    for page in find_pages(project):
        text = page.read_text(encoding="utf-8")
        try:
            filled = fill_page(text, project=project)
        except (MissingFileError, ValueError) as error:
            problems.append(f"{page.relative_to(project)}: {error}")
            continue
        if filled != text:
            write_atomically(page, filled)
            changed.append(page)
    return changed, problems


def draw_scores(*, project: Path = PROJECT) -> Path:
    """Draw README's figure, ``data/results/loco.png``."""
    from clepdg_lib.plots import score_dots, set_style

    rows = _inductive(_read("loco", project=project)["rows"])
    rows = rows[rows["method"].isin(HEADLINE)]
    scores = rows.pivot_table("uar", "method", "test", sort=False)
    set_style()
    title = "UAR on each corpus left out of training"
    figure = score_dots(scores.rename(columns=CORPORA), title=title, chance=0.25)
    image, file = io.BytesIO(), project / "data" / "results" / "loco.png"
    figure.savefig(image, format="png", dpi=110, metadata={"Software": None})
    return write_atomically(file, image.getvalue())


def _read(name: str, *, project: Path) -> dict:
    file = project / "data" / "results" / f"{name}.json"
    if not file.is_file():
        raise MissingFileError(f"{file} is missing, and the block {name!r} needs it.")
    result = json.loads(file.read_text(encoding="utf-8"))
    if not result.get("rows"):
        raise ValueError(f"{file} has no rows.")
    return result


def _inductive(rows: list[dict]) -> pd.DataFrame:
    """Leave out rows that used the test corpus's own mean."""
    return pd.DataFrame([row for row in rows if not row.get("transductive")])


def _scores(rows: pd.DataFrame) -> list[str]:
    """Tables of UAR and WAR: a row a method, a column a test set and their mean."""
    rows = rows.assign(transductive=rows.get("transductive", False))
    parts, seeds = [], ", ".join(map(str, sorted(set(rows["seed"]))))
    for (setting, own), some in rows.groupby(["setting", "transductive"], sort=False):
        note = "; transductive: the test corpus's own mean was used" if own else ""
        n_clips = some.groupby(["method", "seed", "test"], sort=False)["n"].sum()
        n_clips = n_clips.groupby("test", sort=False).max()  # of all folds together
        names = {t: f"{CORPORA.get(t, t)} (n = {n:,})" for t, n in n_clips.items()}
        for score in ("uar",) if own else ("uar", "war"):
            parts.append(f"**{score.upper()}** ({setting}, seeds {seeds}{note}):\n")
            cells = some.pivot_table(score, ["method", "seed"], "test")[list(names)]
            # Of the corpora of a seed first: its spread is that of the last column.
            cells["mean"] = cells.mean(axis=1, skipna=False)
            parts.append(_by_method(cells.rename(columns=names), some["method"]))
    return parts


def _severities(rows: pd.DataFrame) -> str:
    """Mean UAR over corpora and places, by severity; without one, as recorded."""
    rows = rows.assign(severity=rows["severity"].fillna(0).astype(int))
    cells = rows.pivot_table("uar", ["method", "seed"], "severity")
    names = {k: f"severity {k}" if k else "as recorded" for k in cells}
    return _by_method(cells.rename(columns=names), rows["method"])


def _by_method(cells: pd.DataFrame, methods: pd.Series) -> str:
    """Mean and spread over seeds of each column: a row a method."""
    table = pd.DataFrame({"method": [f"`{method}`" for method in methods.unique()]})
    for name in cells:
        table[name] = [_spread(cells.loc[m][name].dropna()) for m in methods.unique()]
    return write_table(table)


def _spread(values: pd.Series) -> str:
    spread = f" ± {_number(values.std())}" if len(values) > 1 else ""
    return _number(values.mean()) + spread if len(values) else "–"


def _comparisons(pairs: pd.DataFrame) -> str:
    signed = pairs.select_dtypes("number").map("{:+.3f}".format)
    table = pd.DataFrame({"difference": "`" + pairs["a"] + "` − `" + pairs["b"] + "`"})
    table["setting"], table["mean"] = pairs["setting"], signed["mean_difference"]
    table["drawing clips"] = signed["ci_low"] + " to " + signed["ci_high"]
    wide = signed["wide_low"] + " to " + signed["wide_high"]
    return write_table(table.assign(**{"drawing corpora, speakers and clips": wide}))


def _lessons(notebooks: Path) -> str:
    rows = []
    for name, minutes in LESSONS.items():
        notebook = nbformat.read(notebooks / f"{name}.ipynb", as_version=4)
        title, _ = find_title(notebook, default=name)
        rows.append((f"[{title}](notebooks/{name}.ipynb)", minutes))
    return write_table(pd.DataFrame(rows, columns=["lesson", "minutes"]))


def write_table(table: pd.DataFrame) -> str:
    """Return a Markdown table; numbers have three decimals and stand right."""
    lines = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    columns = ["".join(cells) for cells in zip(*lines, strict=True)]
    rule = ["--:" if re.fullmatch(r"[\d.,+± –-]+", c) else "---" for c in columns]
    rows = [[*table.columns], rule, *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) >= 1 else _number(value)
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace("|", r"\|").replace("\n", " ")


def _number(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


def store(benchmark: Path, *, project: Path = PROJECT) -> None:
    """Lay the settings of a benchmark apart, in ``data/results/SETTING.json``."""
    result = json.loads(benchmark.read_text(encoding="utf-8"))
    for setting in sorted({row["setting"] for row in result["rows"]}):
        own = {
            key: [each for each in result[key] if each["setting"] == setting]
            for key in ("rows", "comparisons")
        }
        file = project / "data" / "results" / f"{setting}.json"
        write_atomically(file, json.dumps(result | own, indent=1) + "\n")


def main() -> int:
    """Fill all pages; return 1 if a page has a problem."""
    if len(sys.argv) > 1:
        store(Path(sys.argv[1]))
    draw_scores()
    changed, problems = write_pages()
    print(*(f"wrote {page}" for page in changed), *problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
