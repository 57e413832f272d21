"""What each exercise asks for: a check for every number.

A check calls the student's function on small inputs and compares the result with
what the definition gives. It raises an AssertionError that says what is wrong and what
the usual cause is; it never shows the solution.

Lesson: every notebook; `exercises.judge` calls these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F


def _close(found: Any, expected: Any, message: str) -> None:
    """Compare numbers or tensors, shapes first."""
    found = torch.as_tensor(found, dtype=torch.float64)
    expected = torch.as_tensor(expected, dtype=torch.float64)
    assert found.shape == expected.shape, (
        f"the shape is {tuple(found.shape)}, it should be {tuple(expected.shape)}"
    )
    assert torch.allclose(found, expected, atol=1e-4), message


def _sphere(n: int, *, dim: int = 8, seed: int = 0) -> torch.Tensor:
    """Random points of unit length: embeddings small enough to check by hand."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, dim, generator=generator), dim=-1)


def _loudness(loudness: Callable) -> None:
    _close(loudness(torch.ones(100)), 0.0, "a wave of all ones has a level of 0 dB")
    wave = 0.1 * torch.ones(100)
    found = float(loudness(wave))
    hint = "10·log10 goes with power, 20·log10 with amplitude"
    _close(found, -20.0, f"a wave of all 0.1 is at -20 dB, not {found:.1f}: {hint}")
    wave = torch.tensor([1.0, 0.0, -1.0, 0.0])
    hint = "square first, then the mean, then the root"
    _close(loudness(wave), 20 * math.log10(math.sqrt(0.5)), f"not the RMS: {hint}")


def _mix_noise(mix_noise: Callable) -> None:
    generator = torch.Generator().manual_seed(7)
    voice, noise = torch.randn(2, 4000, generator=generator) * torch.tensor([[1], [5]])
    for snr_db in (10.0, 0.0, -6.0):
        added = torch.as_tensor(mix_noise(voice, noise, snr_db)) - voice
        assert not torch.allclose(added, noise, atol=1e-4), (
            "the noise was added as it came: scale it first"
        )
        along = float(added @ noise / (added.norm() * noise.norm()))
        assert along > 0.999, "the voice must stay as it is: scale the noise alone"
        found = float(10 * (voice.square().mean() / added.square().mean()).log10())
        hint = "measure both powers; their ratio is a squared one of amplitudes: a root"
        _close(
            found, snr_db, f"{snr_db:g} dB was asked, this is {found:.1f} dB: {hint}"
        )


def _nearest_text(nearest_text: Callable) -> None:
    text = _sphere(4, seed=1)
    audio = F.normalize(text[[2, 0, 3, 3, 1]] + 0.1 * _sphere(5, seed=2), dim=-1)
    found = torch.as_tensor(nearest_text(audio, text))
    assert tuple(found.shape) == (5,), (
        f"5 clips need 5 answers, the shape is {tuple(found.shape)}: "
        "take the best over the sentences, not over the clips"
    )
    assert found.tolist() != (audio @ text.T).argmin(dim=1).tolist(), (
        "these are the farthest sentences: a high cosine is near"
    )
    assert found.tolist() == [2, 0, 3, 3, 1], (
        f"for this example the nearest are [2, 0, 3, 3, 1], not {found.tolist()}"
    )


def _uar(uar: Callable) -> None:
    truth = ["sad"] * 8 + ["happy"] * 2
    _close(uar(truth, truth), 1.0, "all right should give 1")
    found = uar(truth, ["sad"] * 10)
    hint = "this is accuracy; average the recalls of the classes instead"
    _close(found, 0.5, f"always 'sad' should give 0.5, not {float(found):.2f}: {hint}")
    found = uar(truth, ["sad"] * 4 + ["happy"] * 6)
    hint = "recall divides by how often a class is true, not by how often it is said"
    _close(found, 0.75, f"half of sad and all of happy gives 0.75: {hint}")


def _label_targets(label_targets: Callable) -> None:
    labels = torch.tensor([0, 1, 0, 2])
    found = torch.as_tensor(label_targets(labels), dtype=torch.float64)
    rows = [[0.5, 0, 0.5, 0], [0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 1]]
    assert found.shape == (4, 4), f"4 clips need (4, 4), not {tuple(found.shape)}"
    assert not torch.equal(found, torch.eye(4, dtype=torch.float64)), (
        "the identity calls another clip of the same emotion a wrong answer"
    )
    _close(found.sum(dim=1), [1.0] * 4, "each row is a distribution: it sums to 1")
    _close(found, rows, "share each row equally among the clips with the same label")


def _mix_weights(mix_weights: Callable) -> None:
    before = {"w": torch.zeros(2, 3), "b": torch.tensor([1.0])}
    after = {"w": torch.ones(2, 3), "b": torch.tensor([5.0])}
    found = mix_weights(before, after, 0.25)
    assert isinstance(found, dict) and set(found) == {"w", "b"}, (
        "give back a dictionary with the same names as the two that came in"
    )
    hint = "a share of 0 must give back `before`, a share of 1 `after`"
    _close(found["b"], [2.0], f"a quarter of the way from 1 to 5 is 2: {hint}")
    _close(found["w"], 0.25 * torch.ones(2, 3), f"every tensor is mixed alike: {hint}")
    _close(before["b"], [1.0], "you changed `before` itself; make new tensors")


def _insert_context(insert_context: Callable) -> None:
    start, words = torch.zeros(3, 1, 2), 2 * torch.ones(3, 4, 2)
    context = torch.ones(5, 2)
    found = torch.as_tensor(insert_context(start, context, words))
    assert tuple(found.shape) == (3, 10, 2), (
        f"3 sentences of 1 + 5 + 4 tokens are (3, 10, 2), not {tuple(found.shape)}: "
        "give every sentence the same context (expand), then torch.cat over dim 1"
    )
    order = found[0, :, 0].tolist()
    _close(order, [0] + [1] * 5 + [2] * 4, "the order is start, context, words")


def _style_loss(style_loss: Callable) -> None:
    new, old = torch.tensor([1.0, 0.0]), torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    found = float(style_loss(new, old))
    hint = "an opposite direction is no new one: take the absolute value"
    _close(found, 0.5, f"one opposite, one orthogonal gives 0.5, not {found}: {hint}")
    found = float(style_loss(3 * new, old))
    _close(found, 0.5, "the length must not matter: a cosine divides by it")


def _consistency_loss(consistency_loss: Callable) -> None:
    plain = _sphere(3, seed=8)
    placed = F.normalize(plain + 0.8 * _sphere(6, seed=9).view(2, 3, 8), dim=-1)
    found = torch.as_tensor(consistency_loss(placed, plain, 0.1))
    assert found.ndim == 0, f"average over all points: the shape is {found.shape}"
    right = torch.arange(3).repeat(2)
    for temperature in (0.1, 0.5):
        logits = (placed @ plain.T).flatten(0, 1)
        expected = F.cross_entropy(logits / temperature, right)
        found = float(consistency_loss(placed, plain, temperature))
        for other, hint in (
            (F.cross_entropy(logits * temperature, right), "divide by the temperature"),
            (F.cross_entropy(logits, right), "the temperature is not used"),
        ):
            assert abs(found - float(other)) > 1e-4, hint
        hint = "in row e of every context the right sentence is e: repeat 0 .. E-1"
        _close(found, expected, f"not the mean cross-entropy: {hint}")


def _gap_size(gap_size: Callable) -> None:
    audio, text = _sphere(6, seed=3), _sphere(4, seed=4)
    expected = (audio.mean(dim=0) - text.mean(dim=0)).norm()
    hint = "average each modality over its rows first, then take the distance"
    _close(gap_size(audio, text), expected, f"not the distance of the means: {hint}")


def _close_gap(close_gap: Callable) -> None:
    audio, text = _sphere(6, seed=5), _sphere(1, seed=6)[0]
    mean = audio.mean(dim=0)
    found = torch.as_tensor(close_gap(audio, mean, text))
    assert found.shape == audio.shape, f"the shape changed to {tuple(found.shape)}"
    moved = audio - mean + text
    assert not torch.allclose(found, moved, atol=1e-4), (
        "moved, but no longer of length 1: normalise at the end"
    )
    expected = F.normalize(moved, dim=-1)
    _close(found, expected, "take away the mean of audio, add the mean of text")


def _close_by_place(close_by_place: Callable) -> None:
    audio, text = _sphere(6, seed=10), _sphere(1, seed=11)[0]
    places = ["hall", "street", "hall", "street", "street", "hall"]
    found = torch.as_tensor(close_by_place(audio, places, text))
    assert found.shape == audio.shape, f"the shape changed to {tuple(found.shape)}"
    moved = audio.clone()
    for rows in ([0, 2, 5], [1, 3, 4]):
        moved[rows] += text - audio[rows].mean(dim=0)
    right = F.normalize(moved, dim=-1)
    assert not torch.allclose(found, moved, atol=1e-4), (
        "moved, but no longer of length 1: normalise at the end"
    )
    one = F.normalize(audio - audio.mean(dim=0) + text, dim=-1)
    assert not torch.allclose(found, one, atol=1e-4), (
        "this takes one mean for all; each place has its own"
    )
    assert not torch.allclose(found, right[[0, 2, 5, 1, 3, 4]], atol=1e-4), (
        "the clips changed places: write the moved rows back where they were"
    )
    _close(found, right, "take away the mean of the place, add the mean of text")


def _leave_one_out(leave_one_out: Callable) -> None:
    folds = list(leave_one_out(["hall", "street", "studio"]))
    assert len(folds) == 3, f"3 domains make 3 folds, not {len(folds)}"
    for train, test in folds:
        assert test not in train, f"{test!r} is tested and trained on: that is leakage"
        assert len(train) == 2, f"{test!r} is left out, so 2 remain, not {len(train)}"
    tested = sorted(test for _, test in folds)
    assert tested == ["hall", "street", "studio"], "each domain is left out once"


def _n_windows(n_windows: Callable) -> None:
    for seconds, expected in ((2.0, 1), (3.0, 1), (3.5, 2), (6.0, 2), (7.0, 3)):
        found = n_windows(seconds, 3.0)
        hint = "round up, or the end is never heard"
        assert int(found) == expected, (
            f"{seconds} s in windows of 3 s need {expected}, not {found}: {hint}"
        )


def _score_to_report(score_to_report: Callable) -> None:
    validation = {"mild": 0.52, "middling": 0.61, "strong": 0.58}
    test = {"mild": 0.66, "middling": 0.55, "strong": 0.49}
    found = float(score_to_report(validation, test))
    assert found != 0.66, "the best test score was chosen by the test: rule 3"
    assert found != 0.61, (
        "this is the validation score of the chosen setting, too good because it was "
        "chosen for being good; report its test score"
    )
    hint = "choose by validation, then report that setting's test score"
    _close(found, 0.55, f"for this example it is 0.55, not {found}: {hint}")


def _paired_interval(paired_interval: Callable) -> None:
    generator = torch.Generator().manual_seed(12)
    one, other = (torch.rand(2, 60, generator=generator) > 0.5).int().numpy()
    draws = torch.randint(60, (400, 60), generator=generator).numpy()
    found = [float(x) for x in paired_interval(one, other, draws)]
    assert len(found) == 2, f"a low and a high end are asked, not {len(found)} numbers"
    gains = torch.as_tensor((one - other)[draws].mean(axis=1))
    tails = torch.tensor([0.025, 0.975], dtype=gains.dtype)
    low, high = gains.quantile(tails).tolist()
    swapped = "the first method minus the other, not the other way round"
    assert abs(found[0] + high) > 1e-3 or abs(low + high) < 1e-3, swapped
    wide = found[1] - found[0]
    assert wide < 1.2 * (high - low), (
        "too wide: use the same rows for both methods, and take the difference first"
    )
    assert wide > 0.9 * (high - low), "too narrow: the 2.5th and the 97.5th percentile"
    hint = "percentiles of the R mean differences"
    _close(found, [low, high], f"for this example {low:.3f} to {high:.3f}: {hint}")


def _hours_needed(hours_needed: Callable) -> None:
    found = float(hours_needed(36_000, 4.0, 25.0))
    hint = "an hour has 3,600 seconds, and a second 1,000 milliseconds"
    assert abs(found - 0.04) > 1e-6, "this is the small model's time: use the factor"
    _close(found, 1.0, f"36,000 clips of 4 ms, 25 times over, take 1 h: {hint}")


CHECKS: dict[str, Callable[[Any], None]] = {
    "00.1": _loudness,
    "00.2": _mix_noise,
    "01.1": _nearest_text,
    "01.2": _uar,
    "02.1": _label_targets,
    "02.2": _mix_weights,
    "03.1": _insert_context,
    "03.2": _style_loss,
    "03.3": _consistency_loss,
    "04.1": _gap_size,
    "04.2": _close_gap,
    "04.3": _close_by_place,
    "05.1": _leave_one_out,
    "05.2": _score_to_report,
    "05.3": _paired_interval,
    "06.1": _n_windows,
    "06.2": _hours_needed,
}
