"""Recipes are chosen by pairs: what was tried is kept, both of a pair are judged."""

import sys

import pytest

from clepdg_lib.files import PROJECT


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(PROJECT / "data"))
    import choose_recipe

    yield choose_recipe
    sys.modules.pop("choose_recipe", None)


@pytest.fixture
def tried(script, monkeypatch):
    """Stand in for the trainings: note the pairs, and give each recipe a score."""
    calls = []

    def try_pair(clap, corpora, materials, pair, *, recipe, seed):
        calls.append((recipe.probe_steps, recipe.dropout, pair, seed))
        score = 0.4 + recipe.dropout / 10 + recipe.probe_steps / 10_000
        return [
            {"test": name, "words": score + 0.1 * (name == "emodb")} for name in pair
        ]

    monkeypatch.setattr(script, "try_pair", try_pair)
    monkeypatch.setattr(script, "load_clap", lambda name: name)
    monkeypatch.setattr(
        script, "load_all", lambda: dict.fromkeys((*script.REAL, "emogator"))
    )
    monkeypatch.setattr(script, "prepare", lambda corpus, clap: None)
    return calls


def run(script, monkeypatch, file, *only, model="clap-mini"):
    argv = ["choose_recipe.py", "--json", str(file), "--model", model, "--only", *only]
    monkeypatch.setattr(sys, "argv", argv)
    script.main()


def test_each_pair_is_tried_once_and_the_best_comes_first(
    script, tried, monkeypatch, tmp_path, capsys
):
    names = ["100 steps", "200 steps, dropout .5"]
    run(script, monkeypatch, tmp_path / "rows.json", *names)
    assert len(tried) == 2 * 6 and len({pair for _, _, pair, _ in tried}) == 6
    assert {call[:2] for call in tried} == {(100, 0.0), (200, 0.5)}
    told = capsys.readouterr().out.splitlines()
    assert told[-2].startswith("200 steps, dropout .5") and "0.495" in told[-2]
    assert told[-1].startswith("100 steps") and told[-3].startswith("recipe")
    run(script, monkeypatch, tmp_path / "rows.json", *names)
    assert len(tried) == 12, "what is in the file was tried again"
    capsys.readouterr()
    run(script, monkeypatch, tmp_path / "rows.json", names[0], model="another")
    assert len(tried) == 18, "another model was taken for the first"
    assert names[1] not in capsys.readouterr().out


def test_recipes_differ_in_what_their_names_say(script):
    from dataclasses import replace

    made = {name: replace(script.START, **how) for name, how in script.RECIPES.items()}
    assert len({repr(recipe) for recipe in made.values()}) == len(made)
    for name, recipe in made.items():
        assert ("dropout" in name or "epoch" in name) == (recipe.dropout > 0), name
        assert ("epoch" in name) == (recipe.epochs > 0), name
        voiced = "voices" in name or "epoch" in name
        assert voiced == (recipe.other_voices > 0), name


def test_without_the_corpora_it_says_what_is_missing(script, monkeypatch):
    from clepdg_lib.corpora import CorpusError

    def missing():
        raise CorpusError("corpus 'tess' was not found")

    monkeypatch.setattr(script, "load_clap", lambda name: name)
    monkeypatch.setattr(script, "load_all", missing)
    monkeypatch.setattr(sys, "argv", ["choose_recipe.py"])
    with pytest.raises(SystemExit, match="all four corpora are needed.*tess"):
        script.main()
