"""Pages quote results as the script writes them, and only so."""

import json

import pandas as pd
import pytest
from nbformat import write
from nbformat.v4 import new_markdown_cell, new_notebook

from clepdg_lib.files import PROJECT, MissingFileError
from clepdg_lib.lesson import LESSONS
from clepdg_lib.results import fill_page, find_pages, render, write_pages


def row(method, test, uar, *, seed=0, n=100):
    about = {"setting": "loco", "test": test, "seed": seed, "n": n}
    return {"method": method, **about, "uar": uar, "war": uar + 0.1}


@pytest.fixture
def project(tmp_path):
    """A project with two pages and the results of two seeds."""
    rows = [
        row("chance", "tess", 0.25),
        row("clep-dg", "tess", 0.5, n=1600),
        row("clep-dg", "tess", 0.7, seed=1),
        row("a-new-one", "tess", 0.3),
        row("egemaps-lr", "tess", 0.2),
        row("chance", "nemo", 0.25),
        row("clep-dg", "nemo", 0.3),
        row("clep-dg", "nemo", 0.3, seed=1),
        row("egemaps-lr", "nemo", 0.4),
    ]
    loco = {"tier": "audio", "model": "clap-mini", "seeds": [0, 1], "rows": rows}
    task = {"task": "sex", "test": "emodb", "uar": 0.9, "war": 0.8, "chance": 0.5}
    card = {"model": "clap-mini", "rows": [{**task, "n": 1234}]}
    results = tmp_path / "data" / "results"
    results.mkdir(parents=True)
    (results / "loco.json").write_text(json.dumps(loco))
    (results / "card.json").write_text(json.dumps(card))
    (tmp_path / "data" / "models").mkdir()
    for page, name in (("README.md", "loco"), ("data/models/README.md", "card")):
        (tmp_path / page).write_text(f"Before.\n\n{block(name)}\n\nAfter.\n")
    return tmp_path


def block(name, body=""):
    return f"<!-- results:{name} -->\n{body}<!-- /results:{name} -->"


def cells(table, first):
    """The cells of a table's row that begins with a word."""
    for line in table.splitlines():
        found = [cell.strip() for cell in line.strip("|").split("|")]
        if found[0] == first:
            return found[1:]
    raise AssertionError(f"no row {first!r} in {table}")


def test_scores_stand_by_method_and_corpus_with_their_mean(project):
    written = render("loco", project=project)
    uar, war = written.split("**WAR**")
    assert "`clap-mini`" in uar and "seeds 0, 1" in uar and "loco" in uar
    assert cells(uar, "method") == ["TESS (n = 1,600)", "nEMO (n = 100)", "mean"]
    assert cells(uar, "`chance`") == [".250", ".250", ".250"]
    # standard deviation over seeds: of .5 and .7, of .3 and .3, of .4 and .5
    assert cells(uar, "`clep-dg`") == [".600 ± .141", ".300 ± .000", ".450 ± .071"]
    assert cells(war, "`egemaps-lr`") == [".300", ".500", ".400"]
    # a corpus is missing: no mean is better than a wrong one
    assert cells(uar, "`a-new-one`") == [".300", "–", "–"]


def test_reference_points_come_first_and_the_whole_method_last(project):
    written = render("loco", project=project).split("**WAR**")[0]
    order = [line.split("`")[1] for line in written.splitlines() if line[:3] == "| `"]
    assert order == ["chance", "egemaps-lr", "a-new-one", "clep-dg"]


def test_a_shift_stands_by_severity_and_differences_by_setting(project):
    tests = {"clean": 0.8, "hall x1": 0.6, "street x1": 0.4, "hall x3": 0.3}
    rows = [row("clep-dg", test, uar) for test, uar in tests.items()]
    rows = [{**r, "setting": "shift"} for r in rows]
    pair = {"a": "clep-dg", "b": "text-drift", "mean_difference": 0.1}
    pair |= {"ci_low": 0.0, "ci_high": 0.2}
    pairs = [{**pair, "setting": s} for s in ("shift", "shift, hardest")]
    found = {"model": "m", "seeds": [0], "rows": rows, "comparisons": pairs}
    (project / "data/results/shift.json").write_text(json.dumps(found))
    written = render("shift", project=project)
    heads = ["clean (n = 100)", "severity 1 (n = 100)", "severity 3 (n = 100)", "mean"]
    assert cells(written, "method") == heads
    assert cells(written, "`clep-dg`") == [".800", ".500", ".300", ".533"]
    assert "`text-drift` (shift, hardest)" in written


def test_choices_stand_by_corpus_and_rule_with_their_seeds(project):
    chosen = [("oracle", "4 contexts"), ("oracle", "1 token"), ("oracle", "1 token")]
    chosen += [("training-domain", "untuned")] * 3
    found = {"model": "m", "seeds": [0, 1, 2]}
    found["rows"] = [{**row("clep-dg", "tess", 0.5), "setting": "selection"}]
    found["choices"] = [
        {"test": "tess", "seed": i % 3, "rule": rule, "variant": variant}
        for i, (rule, variant) in enumerate(chosen)
    ]
    (project / "data/results/selection.json").write_text(json.dumps(found))
    written = render("selection", project=project)
    assert cells(written, "left out") == ["oracle", "training-domain"]
    assert cells(written, "TESS") == ["1 token (2); 4 contexts (1)", "untuned (3)"]


def test_chance_comes_first_also_where_no_method_is_known(project):
    rows = [row(method, "tess", 0.5) for method in ("untuned", "chance")]
    found = {"model": "m", "seeds": [0], "rows": rows}
    (project / "data/results/ablation.json").write_text(json.dumps(found))
    written = render("ablation", project=project)
    assert written.index("`chance`") < written.index("`untuned`")


def test_tasks_stand_row_by_row(project):
    assert cells(render("card", project=project), "sex") == [
        *("EMO-DB", ".900", ".800", ".500", "1,234")
    ]


def test_pages_are_filled_and_then_stay(project):
    changed, problems = write_pages(project=project)
    assert problems == [] and len(changed) == len(find_pages(project)) == 2
    text = (project / "README.md").read_text()
    assert text.startswith("Before.\n\n<!-- results:loco -->\n**UAR**")
    assert text.endswith("<!-- /results:loco -->\n\nAfter.\n")
    assert write_pages(project=project) == ([], [])
    assert fill_page(text, project=project) == text
    typed = text.replace(".600", ".900")  # somebody improves a figure by hand
    assert fill_page(typed, project=project) == text


def test_what_is_missing_is_named_and_the_rest_is_written(project):
    page = project / "README.md"
    page.write_text(page.read_text() + block("lodo", "old\n"))
    changed, problems = write_pages(project=project)
    assert changed == [project / "data/models/README.md"]
    assert len(problems) == 1 and "README.md" in problems[0] and "lodo" in problems[0]
    assert page.read_text().endswith(block("lodo", "old\n"))
    with pytest.raises(MissingFileError, match=r"lodo\.json is missing"):
        render("lodo", project=project)


@pytest.mark.parametrize("text", ["<!-- results:a -->", "x <!-- /results:loco -->"])
def test_a_marker_without_its_partner_is_refused(project, text):
    with pytest.raises(ValueError, match="lacks its partner"):
        fill_page(text, project=project)


def test_results_of_no_known_kind_are_refused(project):
    (project / "data/results/odd.json").write_text('{"rows": [{"loss": 1}]}')
    with pytest.raises(ValueError, match=r"odd\.json.*method.*task"):
        render("odd", project=project)


def test_the_map_lists_the_lessons_that_are_there(project):
    names = list(LESSONS)
    (project / "notebooks").mkdir()
    for name in names[:2]:
        cell = new_markdown_cell(f"# On {name[3:]}\n\nYou will *try* a | b.")
        path = project / "notebooks" / f"{name}.ipynb"
        write(new_notebook(cells=[cell]), path)
    written = render("map", project=project)
    link = f"[`{names[0]}`](notebooks/{names[0]}.ipynb)"
    title, _, minutes, seconds = (
        cells(written.replace(r"\|", "or"), link)[i] for i in range(4)
    )
    assert (title, minutes, seconds) == ("On welcome", str(LESSONS[names[0]]), "–")
    assert names[1] in written and names[2] not in written


def test_seconds_come_from_a_whole_successful_run(project):
    timing = project / "timing.json"
    rows = [{"name": n, "seconds": 9.6, "ok": True, "sections": {}} for n in LESSONS]
    (project / "notebooks").mkdir()
    write(new_notebook(cells=[]), project / "notebooks" / f"{rows[0]['name']}.ipynb")
    timing.write_text(json.dumps({"notebooks": rows}))
    write_pages(project=project, timing=timing)
    assert "| 10 |" in render("map", project=project)
    rows[3]["ok"] = False
    timing.write_text(json.dumps({"notebooks": rows}))
    with pytest.raises(ValueError, match=rows[3]["name"]):
        write_pages(project=project, timing=timing)
    with pytest.raises(MissingFileError, match="make course"):
        write_pages(project=project, timing=project / "nowhere.json")


@pytest.mark.parametrize(
    "page", find_pages(), ids=lambda page: page.relative_to(PROJECT).as_posix()
)
def test_the_projects_pages_quote_their_results_as_measured(page):
    text = page.read_text(encoding="utf-8")
    assert fill_page(text) == text, "run `python -m clepdg_lib readme`"


def test_campaigns_are_listed_with_what_made_them(project):
    row = {"campaign": "power cuts", "did": "3 | SIGKILLs", "found": "0", "seconds": 7}
    made = {"python": "3.11.7", "torch": "2.11.0"}
    file = project / "data" / "results" / "soak.json"
    rows = [{**row, "made_with": made}, {**row, "seconds": 600, "made_with": made}]
    file.write_text(json.dumps({"rows": rows}))
    lines = render("soak", project=project).splitlines()
    assert lines[2] == r"| power cuts | 3 \| SIGKILLs | 0 | <1 |"
    assert lines[3].endswith("| 10 |")
    assert "Python 3.11.7, torch 2.11.0" in lines[-1]


def test_what_ships_tells_what_the_recordings_told():
    """`loco` from 8-bit embeddings, and from audio: within a point of UAR."""
    found = {}
    for name in ("loco", "loco-audio"):
        file = PROJECT / "data" / "results" / f"{name}.json"
        rows = pd.DataFrame(json.loads(file.read_text())["rows"])
        keys = ["method", "test", "gap_correction", "transductive"]
        found[name] = rows.groupby(keys)["uar"].mean()
    both = pd.DataFrame(found).dropna()
    assert set(found["loco"].index) == set(both.index)
    assert (both["loco"] - both["loco-audio"]).abs().max() < 0.01


def test_recipes_are_listed_by_their_mean_over_pairs(project):
    pairs = [["emodb", "tess"], ["emodb", "nemo"]]
    rows = [
        {
            **{"model": "clap-mini", "recipe": recipe, "left_out": pair, "seed": seed},
            **{"test": test, "words": words + 0.2 * (test == "emodb"), "probe": 0.5},
        }
        for recipe, words in (("slow", 0.3), ("quick", 0.5))
        for pair in pairs[: 2 if recipe == "quick" else 1]
        for seed in (0, 1)
        for test in pair
    ]
    (project / "data" / "results" / "recipes.json").write_text(
        json.dumps({"rows": rows})
    )
    lines = render("recipes", project=project).splitlines()
    assert lines[0].startswith("**UAR** (started from `clap-mini`)")
    assert lines[2] == "| recipe | words | probe | EMO-DB | nEMO | TESS | trainings |"
    assert lines[4] == "| quick | .600 | .500 | .700 | .500 | .500 | 4 |"
    assert lines[5] == "| slow | .400 | .500 | .500 | – | .300 | 2 |"
