"""Every check accepts a right answer and refuses the usual wrong ones, with a hint."""

import nbformat
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clepdg_lib.editions import NOTEBOOKS, find_exercises
from clepdg_lib.exercises import CHECKS, NOT_YET, RIGHT, WRONG, judge


def precision(truth, predicted):
    values = []
    for emotion in set(truth):
        said = [t for t, p in zip(truth, predicted, strict=True) if p == emotion]
        values.append(sum(t == emotion for t in said) / max(len(said), 1))
    return sum(values) / len(values)


def mix_weights(before, after, share):
    return {name: before[name].lerp(after[name], share) for name in before}


def add_in_place(before, after, share):
    for name in before:
        before[name] += share * (after[name] - before[name])
    return {name: before[name].clone() for name in before}


def insert_context(start, context, words):
    return torch.cat([start, context.expand(len(words), -1, -1), words], dim=1)


def close_gap(audio, mean_audio, mean_text):
    return F.normalize(audio - mean_audio + mean_text, dim=-1)


def by_place(audio, places, mean_text, *, sort=False):
    parts = []
    for name in sorted(set(places)):
        rows = [i for i, place in enumerate(places) if place == name]
        moved = close_gap(audio[rows], audio[rows].mean(dim=0), mean_text)
        parts += zip(rows, moved, strict=True)
    return torch.stack(
        [row for _, row in (parts if sort else sorted(parts, key=first))]
    )


def first(pair):
    return pair[0]


def consistency(placed, plain, temperature):
    logits = (placed @ plain.T / temperature).flatten(0, -2)
    return F.cross_entropy(logits, torch.arange(3).repeat(len(logits) // 3))


def paired(one, other, draws, *, tails=(2.5, 97.5)):
    return np.percentile((one - other)[draws].mean(axis=1), tails)


def separate(one, other, draws):
    (a, b), (c, d) = paired(one, 0 * one, draws), paired(other, 0 * other, draws)
    return a - d, b - c


def leave_one_out(domains):
    return [([d for d in domains if d != test], test) for test in domains]


def _from_the_notebooks():
    """The worked solutions, run as a student would run them."""
    found = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for exercise in find_exercises(nbformat.read(path, as_version=4)):
            names = {"torch": torch, "F": F}
            exec(compile(exercise.solution, exercise.number, "exec"), names)
            found[exercise.number] = names[exercise.name]
    return found


SOLUTIONS = _from_the_notebooks()
# Exercise, a usual mistake, and a word that the hint about it must hold.
MISTAKES = [
    ("00.1", lambda w: 10 * torch.log10(w.square().mean().sqrt()), "amplitude"),
    ("00.1", lambda w: 20 * torch.log10(w.abs().mean()), "square"),
    ("00.2", lambda v, n, snr: v + n, "scale it first"),
    ("00.2", lambda v, n, snr: v * 10 ** (snr / 20) + n, "noise alone"),
    ("00.2", lambda v, n, snr: v + n * 10 ** (-snr / 20), "measure both"),
    (
        "00.2",
        lambda v, n, snr: v + n * (v.norm() / n.norm()) * 10 ** (-snr / 10),
        "root",
    ),
    ("01.1", lambda audio, text: (audio @ text.T).argmax(dim=0), "shape"),
    ("01.1", lambda audio, text: (audio @ text.T).argmin(dim=1), "farthest"),
    ("01.1", lambda audio, text: torch.zeros(5), "nearest"),
    ("01.2", lambda t, p: sum(map(str.__eq__, t, p)) / len(t), "accuracy"),
    ("01.2", precision, "recall"),
    ("02.1", lambda labels: torch.eye(len(labels)), "same emotion"),
    ("02.1", lambda y: (y[:, None] == y[None]).float(), "sums to 1"),
    ("02.2", lambda b, a, s: mix_weights(a, b, s), "share of 0"),
    ("02.2", lambda b, a, s: list(b.values()), "dictionary"),
    ("02.2", lambda b, a, s: {n: b[n] + s * a[n] for n in b}, "a quarter"),
    ("02.2", add_in_place, "new tensors"),
    ("03.1", lambda start, context, words: torch.cat([start, words], 1), "tokens"),
    ("03.1", lambda s, c, w: insert_context(w, c, s), "order"),
    ("03.1", lambda s, c, w: torch.cat([s, c, w], dim=1), "stopped with"),
    ("03.2", lambda new, old: F.cosine_similarity(new[None], old).mean(), "absolute"),
    ("03.2", lambda new, old: (old @ new).abs().mean(), "length"),
    ("03.3", lambda p, e, t: consistency(p, e, 1 / t), "divide"),
    ("03.3", lambda p, e, t: consistency(p, e, 1.0), "not used"),
    (
        "03.3",
        lambda p, e, t: consistency(p.transpose(0, 1), e, t),
        "in row e of every context",
    ),
    ("03.3", lambda p, e, t: (p @ e.T / t).softmax(dim=-1), "average over all"),
    ("04.1", lambda a, t: torch.cdist(a, t).mean(), "first"),
    ("04.2", lambda a, m, t: a - m + t, "normalise"),
    ("04.2", lambda a, m, t: F.normalize(a - m, dim=-1), "mean of text"),
    ("04.1", lambda a, t: (a.mean() - t.mean()).norm(), "first"),
    ("04.3", lambda a, p, t: close_gap(a, a.mean(dim=0), t), "each place has its own"),
    ("04.3", lambda a, p, t: by_place(a, p, t, sort=True), "changed places"),
    ("04.3", lambda a, p, t: 2 * by_place(a, p, t), "take away"),
    ("05.1", lambda domains: [(domains, d) for d in domains], "leakage"),
    ("05.1", lambda domains: leave_one_out(domains)[:1], "3 folds"),
    ("05.2", lambda validation, test: max(test.values()), "rule 3"),
    ("05.2", lambda validation, test: max(validation.values()), "too good"),
    ("05.2", lambda v, t: t[min(v, key=v.get)] - 0.1, "choose by validation"),
    ("05.3", lambda a, b, d: paired(b, a, d), "other way round"),
    ("05.3", lambda a, b, d: paired(a, b, d, tails=(5, 95)), "too narrow"),
    ("05.3", lambda a, b, d: separate(a, b, d), "too wide"),
    ("05.3", lambda a, b, d: [(a - b).mean()], "low and a high end"),
    ("06.1", lambda seconds, window: seconds / window, "round up"),
    ("06.1", lambda seconds, window: int(seconds // window), "round up"),
    ("06.2", lambda n_clips, ms, factor: n_clips * ms / 3_600_000, "factor"),
    ("06.2", lambda n_clips, ms, factor: n_clips * ms * factor / 3_600, "seconds"),
]


@pytest.mark.parametrize("number", CHECKS)
def test_the_solution_is_right(number):
    assert judge(number, SOLUTIONS[number]) == (RIGHT, "right")


@pytest.mark.parametrize("number", CHECKS)
@pytest.mark.parametrize("stub", [..., lambda *_: ..., lambda *_: NotImplemented])
def test_an_untouched_stub_is_no_mistake(number, stub):
    mark, message = judge(number, stub)
    assert (mark, "not attempted" in message) == (NOT_YET, True)


@pytest.mark.parametrize(("number", "answer", "hint"), MISTAKES)
def test_a_usual_mistake_gets_a_hint_about_its_cause(number, answer, hint):
    mark, message = judge(number, answer)
    assert mark == WRONG
    assert hint in message


@pytest.mark.parametrize("number", CHECKS)
def test_every_exercise_was_fed_two_mistakes(number):
    assert sum(mistake[0] == number for mistake in MISTAKES) >= 2


def test_every_check_is_asked_in_a_notebook():
    assert sorted(SOLUTIONS) == sorted(CHECKS)


def test_a_forgotten_return_is_told_apart():
    mark, message = judge("00.1", lambda wave: None)
    assert (mark, "return" in message) == (NOT_YET, True)


def test_an_answer_that_raises_is_wrong_not_fatal():
    mark, message = judge("00.1", lambda wave: 1 / 0)
    assert (mark, "ZeroDivisionError" in message) == (WRONG, True)


def test_an_unknown_exercise_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'99\.1'.*00\.1.*06\.2"):
        judge("99.1", ...)
