"""What is measured has a name, an aim and a place in README; times stay untested."""

import argparse
import json
import time

import pytest
import torch

from clepdg_lib import results, speed
from clepdg_lib.speed import FIGURES, MEASUREMENTS, alternate, least_cosine, measure


def test_figures_become_json_rows_and_a_table(monkeypatch, tmp_path, capsys):
    fake = {
        "mini": lambda: {"embed_ratio_mini": 4.5, "embed_min_cosine": 0.99999},
        "full": lambda: {"embed_ratio_full": 2.0, "embed_min_cosine": 0.9998},
    }
    monkeypatch.setattr(speed, "MEASUREMENTS", fake)
    file = tmp_path / "data" / "results" / "speed.json"
    speed.main(argparse.Namespace(json=str(file), only=None))
    assert "embed_ratio_mini" in capsys.readouterr().out
    found = json.loads(file.read_text())
    assert found["embed_ratio_mini"] == 4.5
    assert found["embed_min_cosine"] == 0.9998  # the worse of two
    assert {row["figure"] for row in found["rows"]} <= set(FIGURES)
    assert found["machine"]["threads"] == torch.get_num_threads()
    page = results.render("speed", project=tmp_path)
    assert "| LAION's size: plain transformers / `embed_audio` | 2 | ≥ 1.8 |" in page
    fake["mini"] = lambda: {"embed_ratio_mini": 5.0}
    speed.main(argparse.Namespace(json=str(file), only=["mini"]))
    kept = json.loads(file.read_text())
    assert (kept["embed_ratio_mini"], kept["embed_ratio_full"]) == (5.0, 2.0)
    capsys.readouterr()
    fake["mini"] = lambda: {"embed_ratio_mini": 4.5}
    speed.main(argparse.Namespace(json="-", only=["mini"]))
    assert json.loads(capsys.readouterr().out)["embed_ratio_mini"] == 4.5


def test_an_unknown_measurement_is_refused():
    with pytest.raises(ValueError, match="'space'.*mini"):
        measure(["space"])


def test_every_issue_has_a_figure():
    promised = "embed_ratio_mini embed_ratio_full embed_min_cosine peak_fraction_full"
    promised += " contexts_ratio cache_hit_ms rss_ratio time_exponent import_s"
    assert set(promised.split()) <= set(FIGURES)
    assert set(MEASUREMENTS) >= {"mini", "full", "contexts", "cache", "memory", "start"}


def test_two_ways_are_timed_in_turn():
    calls = []
    first, second = alternate(
        lambda: calls.append("a"),
        lambda: calls.append("b") or time.sleep(0.01),
        repeats=3,
    )
    assert calls == ["a", "b"] * 4
    assert second > first


def test_the_cosine_is_that_with_transformers(tiny_clap, monkeypatch):
    assert least_cosine(tiny_clap) >= 0.9999
    truly = speed.plain_embeddings
    monkeypatch.setattr(
        speed, "plain_embeddings", lambda clap, waves: truly(clap, waves).flip(1)
    )
    assert least_cosine(tiny_clap) < 0.9


def test_hits_are_looked_up(monkeypatch, private_cache):
    assert MEASUREMENTS["cache"]()["cache_hit_ms"] > 0
