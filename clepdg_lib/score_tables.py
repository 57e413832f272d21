"""Tables of the benchmark in Markdown: methods by test sets, spread over seeds.

Lesson: none; `results` puts them into the pages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from clepdg_lib.methods import METHODS

CORPORA = {"emodb": "EMO-DB", "ravdess": "RAVDESS", "tess": "TESS", "nemo": "nEMO"}
# Tables beside the headline: their words, and the marks of their rows.
MARKS = {
    "modality gap closed by the training corpora's mean": {
        "gap_correction": "mean-shift"
    },
    "transductive: the test corpus's own unlabelled mean removed": {
        "transductive": True
    },
}


def write_scores(found: dict) -> str:
    """Tables of UAR and WAR, a row per method and a column per left-out set."""
    frame = pd.DataFrame(found["rows"])
    about = f"started from `{found['model']}`, {_seeds(found['seeds'])}"
    parts = []
    for setting, rows in frame.groupby("setting", sort=False):
        if setting.startswith("shift"):
            rows = rows.assign(test=_severity(rows["test"]))
        plain = rows[marked(rows)]
        for score in ("uar", "war"):
            parts.append(f"**{score.upper()}** ({setting}, {about}):\n")
            parts.append(_score_table(plain, score))
        for words, marks in MARKS.items():
            if marked(rows, **marks).any():
                parts.append(f"**UAR, {words}** ({setting}, {about}):\n")
                parts.append(_score_table(rows[marked(rows, **marks)], "uar"))
    if found.get("choices"):
        parts.append("**What was chosen**, and for how many of the seeds:\n")
        parts.append(_choices(found["choices"]))
    if found.get("comparisons"):
        parts.append("**Differences of UAR**, same clips, 95 % interval over clips:\n")
        parts.append(_differences(found["comparisons"]))
    return "\n".join(parts)


def mean_recipes(rows: Sequence[dict]) -> pd.DataFrame:
    """Mean scores of each recipe over the pairs left out, best on text alone first.

    Args:
        rows: As `data/choose_recipe.py` keeps them, of one model.

    Returns:
        A row for each recipe: the scores, of them "words" also by corpus, and how many
        "trainings" (pairs and seeds) they are of.
    """
    frame = pd.DataFrame(rows)
    by_corpus = frame.pivot_table(
        index="recipe", columns="test", values="words", aggfunc="mean"
    )
    by_recipe = frame.groupby("recipe")
    means = by_recipe.mean(numeric_only=True).drop(columns="seed")
    trained = frame["left_out"].map(tuple).astype(str) + frame["seed"].astype(str)
    means["trainings"] = trained.groupby(frame["recipe"]).nunique()
    return means.join(by_corpus).sort_values("words", ascending=False)


def write_recipes(found: dict) -> str:
    """Tables of the recipes that were tried, of each model that they were tried on."""
    parts = []
    for model in dict.fromkeys(row["model"] for row in found["rows"]):
        means = mean_recipes([row for row in found["rows"] if row["model"] == model])
        scores = means.drop(columns="trainings")
        heads = ["recipe", *(CORPORA.get(name, name) for name in scores), "trainings"]
        lines = [
            [
                name,
                *(_cell(row[[score]]) for score in scores),
                str(means["trainings"][name]),
            ]
            for name, row in scores.iterrows()
        ]
        parts.append(f"**UAR** (started from `{model}`):\n")
        parts.append(write_table(heads, lines))
    return "\n".join(parts)


def _choices(choices: Sequence[dict]) -> str:
    """A row for each left-out corpus, a column for each rule of selection."""
    frame = pd.DataFrame(choices)
    rules = list(dict.fromkeys(frame["rule"]))
    lines = []
    for test, rows in frame.groupby("test", sort=False):
        cells = []
        for rule in rules:
            counts = rows.loc[rows["rule"] == rule, "variant"].value_counts()
            cells.append("; ".join(f"{name} ({n})" for name, n in counts.items()))
        lines.append([CORPORA.get(test, test), *cells])
    return write_table(["left out", *rules], lines)


def marked(
    rows: pd.DataFrame, *, gap_correction: str = "none", transductive: bool = False
) -> pd.Series:
    """Which rows carry these marks; rows without any mark are plain."""
    gaps, own = rows.get("gap_correction", "none"), rows.get("transductive", False)
    kept = (gaps == gap_correction) & (own == transductive)
    return pd.Series(kept, index=rows.index)


def _severity(tests: pd.Series) -> pd.Series:
    """Places of one severity share a column, in which they are averaged."""
    found = "severity " + tests.str.extract(r" x([\d.]+)$", expand=False)
    return found.fillna(tests)


def _differences(comparisons: Sequence[dict]) -> str:
    settings = {row["setting"] for row in comparisons}
    lines = [
        [
            f"`{row['a']}` − `{row['b']}`"
            + (f" ({row['setting']})" if len(settings) > 1 else ""),
            f"{row['mean_difference']:+.3f}",
            f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}",
        ]
        for row in comparisons
    ]
    return write_table(["difference", "mean", "interval"], lines)


def _score_table(rows: pd.DataFrame, score: str) -> str:
    tests = list(dict.fromkeys(rows["test"]))
    methods = list(dict.fromkeys(rows["method"]))
    *before, whole = METHODS
    others = [m for m in methods if m not in METHODS]
    methods = [m for m in (*before, *others, whole) if m in methods]
    n_clips = rows.groupby("test")["n"].max()
    # Mean over the corpora of a seed first: its spread is that of the last column.
    cells = rows.pivot_table(index=["method", "seed"], columns="test", values=score)
    cells["mean"] = cells[tests].mean(axis=1, skipna=False)
    lines = []
    for method in methods:
        own = cells.loc[method]
        lines.append([f"`{method}`", *(_cell(own[t]) for t in (*tests, "mean"))])
    heads = [f"{CORPORA.get(t, t)} (n = {n_clips[t]:,})" for t in tests]
    return write_table(["method", *heads, "mean"], lines)


def _cell(values: pd.Series) -> str:
    values = values.dropna()
    if values.empty:
        return "–"
    spread = f" ± {write_number(values.std())}" if len(values) > 1 else ""
    return write_number(values.mean()) + spread


def write_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    numeric = [
        all(re.fullmatch(r"[\d.,± –]+", line[i]) for line in lines)
        for i in range(len(heads))
    ]
    rule = ["--:" if number and lines else "---" for number in numeric]
    rows = [heads, rule, *lines]
    clean = [
        [cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in clean)


def write_number(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    listed = ", ".join(map(str, seeds))
    return f"mean ± standard deviation over seeds {listed}"
