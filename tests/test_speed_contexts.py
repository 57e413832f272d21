"""The schedule timed as published is that schedule, and three ways are timed."""

import torch

from clepdg_lib import contexts, speed_contexts
from clepdg_lib.acpt import tune_contexts
from clepdg_lib.corpora import EMOTIONS
from clepdg_lib.speed_contexts import measure_contexts, tune_as_published

SIZE = {"n_contexts": 3, "n_tokens": 2, "steps": 6, "seed": 3}


def test_the_plain_way_is_our_sequential_schedule(tiny_clap, monkeypatch):
    monkeypatch.setattr(contexts, "fast_precision", lambda *_: False)
    plain = tune_as_published(tiny_clap, EMOTIONS, **SIZE)
    how = {"schedule": "sequential", "n_drawn": None, "progress": False}
    ours = tune_contexts(tiny_clap, EMOTIONS, **SIZE, **how)
    start = tune_contexts(tiny_clap, EMOTIONS, **{**SIZE, "steps": 0}, **how)
    assert (plain.vectors - start.vectors).abs().max() > 1e-3
    torch.testing.assert_close(plain.vectors, ours.vectors, atol=1e-5, rtol=1e-4)


def test_what_is_measured_is_a_ratio_and_a_gain(monkeypatch):
    monkeypatch.setattr(speed_contexts, "REPEATS", 2)
    ways = {name: [] for name in ("tune_as_published", "tune_contexts")}
    for name, seen in ways.items():
        real = getattr(speed_contexts, name)

        def few(clap, emotions, *, real=real, seen=seen, **how):
            seen.append(how)
            return real(clap, emotions, n_contexts=2, steps=2, **how)

        monkeypatch.setattr(speed_contexts, name, few)
    found = measure_contexts()
    assert found["contexts_ratio"] > 0 and found["contexts_schedule_ratio"] > 0
    assert abs(found["contexts_uar_gain"]) < 0.5 and found["contexts_uar_error"] >= 0
    assert [how["seed"] for how in ways["tune_as_published"]] == [0, 1]
    kinds = [(h.get("schedule"), "n_drawn" in h) for h in ways["tune_contexts"]]
    assert kinds == [(None, False), ("sequential", True), (None, True)] * 2
