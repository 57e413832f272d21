"""Every check accepts a right answer and refuses the usual wrong ones, with a hint."""

import math

import pytest
import torch
from torch.nn import functional as F

from clepdg_lib.exercises import CHECKS, NOT_YET, RIGHT, WRONG, judge


def loudness(wave):
    return 20 * torch.log10(wave.square().mean().sqrt())


def mix_noise(voice, noise, snr_db):
    ratio = voice.square().mean() / noise.square().mean()
    return voice + noise * (ratio / 10 ** (snr_db / 10)).sqrt()


def uar(truth, predicted):
    recalls = []
    for emotion in set(truth):
        mine = [p for t, p in zip(truth, predicted, strict=True) if t == emotion]
        recalls.append(sum(p == emotion for p in mine) / len(mine))
    return sum(recalls) / len(recalls)


def precision(truth, predicted):
    values = []
    for emotion in set(truth):
        said = [t for t, p in zip(truth, predicted, strict=True) if p == emotion]
        values.append(sum(t == emotion for t in said) / max(len(said), 1))
    return sum(values) / len(values)


def label_targets(labels):
    same = (labels[:, None] == labels[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


def mix_weights(before, after, share):
    return {name: before[name].lerp(after[name], share) for name in before}


def add_in_place(before, after, share):
    for name in before:
        before[name] += share * (after[name] - before[name])
    return {name: before[name].clone() for name in before}


def insert_context(start, context, words):
    return torch.cat([start, context.expand(len(words), -1, -1), words], dim=1)


def style_loss(new, old):
    return F.cosine_similarity(new[None], old).abs().mean()


def close_gap(audio, mean_audio, mean_text):
    return F.normalize(audio - mean_audio + mean_text, dim=-1)


def leave_one_out(domains):
    return [([d for d in domains if d != test], test) for test in domains]


SOLUTIONS = {
    "00.1": loudness,
    "00.2": mix_noise,
    "01.1": lambda audio, text: (audio @ text.T).argmax(dim=1),
    "01.2": uar,
    "02.1": label_targets,
    "02.2": mix_weights,
    "03.1": insert_context,
    "03.2": style_loss,
    "04.1": lambda audio, text: (audio.mean(dim=0) - text.mean(dim=0)).norm(),
    "04.2": close_gap,
    "05.1": leave_one_out,
    "05.2": lambda validation, test: test[max(validation, key=validation.get)],
    "06.1": lambda seconds, window: math.ceil(seconds / window),
    "06.2": lambda n_clips, ms, factor: n_clips * ms * factor / 3_600_000,
}
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
    ("04.1", lambda a, t: torch.cdist(a, t).mean(), "first"),
    ("04.2", lambda a, m, t: a - m + t, "normalise"),
    ("04.2", lambda a, m, t: F.normalize(a - m, dim=-1), "mean of text"),
    ("05.1", lambda domains: [(domains, d) for d in domains], "leakage"),
    ("05.1", lambda domains: leave_one_out(domains)[:1], "3 folds"),
    ("05.2", lambda validation, test: max(test.values()), "rule 3"),
    ("05.2", lambda validation, test: max(validation.values()), "too good"),
    ("05.2", lambda v, t: t[min(v, key=v.get)] - 0.1, "choose by validation"),
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
def test_every_exercise_was_fed_a_mistake(number):
    assert number in {mistake[0] for mistake in MISTAKES}


def test_a_forgotten_return_is_told_apart():
    mark, message = judge("00.1", lambda wave: None)
    assert (mark, "return" in message) == (NOT_YET, True)


def test_an_answer_that_raises_is_wrong_not_fatal():
    mark, message = judge("00.1", lambda wave: 1 / 0)
    assert (mark, "ZeroDivisionError" in message) == (WRONG, True)


def test_an_unknown_exercise_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'99\.1'.*00\.1.*06\.2"):
        judge("99.1", ...)
