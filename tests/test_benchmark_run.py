"""The benchmark's command: which setting runs, what is written, what is refused."""

import argparse
import json

import numpy as np
import pytest

from clepdg_lib import benchmark_run
from clepdg_lib.ablation import AS_IT_IS, NONE
from clepdg_lib.benchmark_run import comparisons, hardest
from clepdg_lib.corpora import EMOTIONS, CorpusError
from clepdg_lib.selection import RULES, Choice, method_of
from clepdg_lib.verdicts import Verdict

pytestmark = pytest.mark.usefixtures("private_cache")
KEYS = {"method", "setting", "test", "seed", "uar", "war", "n", "ci_low", "ci_high"}
KEYS |= {"recall", "collapsed", "selection", "gap_correction", "transductive"}


def test_another_start_than_the_shipped_one_is_refused():
    args = {"tier": "embeddings", "model": "clep-mini", "seeds": [0]}
    args |= {"setting": None, "work": None}
    with pytest.raises(ValueError, match="of 'clap-mini', not of 'clep-mini'"):
        benchmark_run.main(argparse.Namespace(**args, json="-"))


@pytest.mark.parametrize("tier", ["audio", "embeddings", "emosynth"])
def test_settings_inside_a_corpus_need_recordings(tier):
    args = {"tier": tier, "model": "clap-mini", "seeds": [0], "work": None}
    for setting in ("supervised", "shift"):
        if tier == "audio":
            with pytest.raises(CorpusError, match="was not found"):
                benchmark_run.main(
                    argparse.Namespace(**args, setting=setting, json="-")
                )
        else:
            with pytest.raises(ValueError, match=f"'{setting}' needs recordings"):
                benchmark_run.main(
                    argparse.Namespace(**args, setting=setting, json="-")
                )


@pytest.mark.parametrize(
    ("tier", "setting"),
    [
        *(("audio", None), ("audio", "supervised"), ("audio", "shift")),
        *(("embeddings", None), ("emosynth", None)),
    ],
)
def test_the_command_writes_what_it_promises(
    monkeypatch, tmp_path, capsys, tier, setting
):
    truth = np.array(EMOTIONS * 2)
    verdicts = [
        Verdict(method, "loco", "tess", 3, truth, np.roll(truth, step))
        for method, step in (("random-contexts", 1), ("clep-dg", 0))
    ]
    seen = []

    def run(*given, seeds, **options):
        seen.append((given, list(seeds), options))
        return verdicts

    class Model:
        name = "clap-mini"

    monkeypatch.setattr(benchmark_run, "load_clap", lambda name: Model())
    monkeypatch.setattr(benchmark_run, "load_corpus", lambda name: name)
    used = {"supervised": "supervise", "shift": "shift_places"}.get(setting)
    used = (
        used
        or {
            "audio": "leave_corpora_out",
            "embeddings": "replay_embeddings",
            "emosynth": "leave_domains_out",
        }[tier]
    )
    monkeypatch.setattr(benchmark_run, used, run)
    file = tmp_path / "new" / "rows.json"
    args = {"tier": tier, "model": "clap-mini", "seeds": [3], "work": tmp_path}
    args["setting"] = setting
    benchmark_run.main(argparse.Namespace(**args, json=str(file)))
    found = json.loads(file.read_text())
    assert list(found) == [
        *("tier", "model", "seeds"),
        *("rows", "comparisons", "made_with"),
    ]
    assert (found["tier"], found["model"], found["seeds"]) == (tier, "clap-mini", [3])
    methods_found = [row["method"] for row in found["rows"]]
    assert methods_found == ["chance", "random-contexts", "clep-dg"]
    assert all(set(row) == KEYS for row in found["rows"]) and seen[0][1] == [3]
    (comparison,) = found["comparisons"]
    assert comparison["mean_difference"] == comparison["ci_low"] == 1.0
    assert "UAR" in capsys.readouterr().out
    benchmark_run.main(argparse.Namespace(**args, json="-"))
    assert json.loads(capsys.readouterr().out) == found


def test_the_hardest_shift_is_compared_on_its_own():
    truth = np.array(EMOTIONS)
    at = ("clean", "hall x1", "hall x3", "street x3")
    verdicts = [Verdict("clep-dg", "shift", t, 0, truth, truth) for t in at]
    verdicts.append(Verdict("clep-dg", "loco", "tess x3", 0, truth, truth))
    found = hardest(verdicts)
    assert [v.test for v in found] == ["hall x3", "street x3"]
    assert {v.setting for v in found} == {"shift, hardest"}


def test_methods_are_compared_with_the_gap_closed_as_well():
    truth = np.array(EMOTIONS * 3)
    about = ("loco", "tess", 0, truth)
    closed = {"gap_correction": "mean-shift"}
    verdicts = [
        Verdict("clep-dg", *about, truth[::-1]),
        Verdict("clep-dg", *about, truth, **closed),
        Verdict("clep-dg", *about, truth[::-1], transductive=True),
        Verdict("text-drift", *about, truth),
        Verdict("text-drift", *about, truth[::-1], **closed),
    ]
    plain, gap = comparisons(verdicts)
    assert (plain["setting"], plain["mean_difference"]) == ("loco", -1.0)
    assert (gap["setting"], gap["mean_difference"]) == ("loco, gap closed", 1.0)


def test_an_ablation_is_compared_with_the_method_as_it_is():
    truth = np.array(EMOTIONS * 3)
    about = ("ablation", "tess", 0, truth)
    verdicts = [Verdict(NONE, *about, truth), Verdict(AS_IT_IS, *about, truth[::-1])]
    (pair,) = comparisons(verdicts)
    assert (pair["a"], pair["b"]) == (AS_IT_IS, NONE)
    assert pair["mean_difference"] == -1.0


def test_a_selection_is_compared_with_the_rule_of_the_headline(monkeypatch, capsys):
    truth = np.array(EMOTIONS * 3)
    about = ("selection", "tess", 0, truth)
    first, second, _ = map(method_of, RULES)
    verdicts = [
        Verdict(NONE, *about, truth),
        Verdict(first, *about, truth[::-1]),
        Verdict(second, *about, truth, selection=RULES[1]),
    ]
    choices = [Choice("tess", 0, RULES[1], "4 contexts", 0.5)]
    args = {"model": "clap-mini", "seeds": [0], "work": None, "setting": "selection"}
    with pytest.raises(ValueError, match="'selection' needs recordings"):
        benchmark_run.main(argparse.Namespace(**args, tier="embeddings", json="-"))
    monkeypatch.setattr(
        benchmark_run, "select_variants", lambda *_, **__: (verdicts, choices)
    )
    benchmark_run.main(argparse.Namespace(**args, tier="audio", json="-"))
    found = json.loads(capsys.readouterr().out)
    assert [(p["a"], p["b"]) for p in found["comparisons"]] == [
        *((first, NONE), (first, second))
    ]
    assert {p["mean_difference"] for p in found["comparisons"]} == {-1.0}
    (choice,) = found["choices"]
    assert choice["rule"] == RULES[1] and choice["variant"] == "4 contexts"
    assert found["rows"][-1]["selection"] == RULES[1]


def test_an_ablation_needs_the_embeddings(monkeypatch, capsys):
    args = {"model": "clap-mini", "seeds": [0], "work": None, "setting": "ablation"}
    with pytest.raises(ValueError, match="needs the embeddings that ship"):
        benchmark_run.main(argparse.Namespace(**args, tier="audio", json="-"))
    truth = np.array(EMOTIONS)
    said = [Verdict(AS_IT_IS, "ablation", "tess", 0, truth, truth)]
    monkeypatch.setattr(benchmark_run, "ablate", lambda seeds: said)
    benchmark_run.main(argparse.Namespace(**args, tier="embeddings", json="-"))
    assert json.loads(capsys.readouterr().out)["rows"][1]["method"] == AS_IT_IS
