"""The checks of the exercises: student functions on small inputs, hints on mistakes.

`exercises.json` has the cases of most: inputs, expected result, usual wrong results.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cosine_similarity, normalize

RIGHT, NOT_YET, WRONG = "✅", "⏳", "❌"


class GradedError(Exception):
    """An answer is not right: (mark, hint)."""


def grade(number: str, answer: Any) -> tuple[str, str]:
    """Return mark and message for an answer: the student's function, or ``...``.

    Raises:
        ValueError: There is no such exercise.
    """
    if number not in CHECKS:
        raise ValueError(f"no exercise {number!r}; there are {', '.join(CHECKS)}.")
    try:
        _attempted(answer)
        CHECKS[number](lambda *args: _attempted(answer(*args)))
    except GradedError as graded:
        return graded.args
    except Exception as error:
        return WRONG, f"your code stopped with {type(error).__name__}: {error}"
    return RIGHT, "right"


def _attempted(value: Any) -> Any:
    if value is ... or value is NotImplemented:
        raise GradedError(NOT_YET, "not attempted yet: replace the ... by your answer")
    if value is None:
        raise GradedError(NOT_YET, "your function returns nothing; is `return` there?")
    return value


def _require(condition: object, hint: str) -> None:
    # Not an assert: `python -O` would turn every exercise into a pass.
    if not condition:
        raise GradedError(WRONG, hint)


def _same(value: Any, expected: Any) -> bool:
    return torch.allclose(torch.as_tensor(value), torch.as_tensor(expected), atol=1e-4)


def _shape(value: Any, expected: tuple[int, ...], hint: str = "") -> None:
    shape = tuple(torch.as_tensor(value).shape)
    _require(shape == expected, f"the shape is {shape}, it should be {expected}{hint}")


def _close(value: Any, expected: Any, hint: str) -> None:
    value = torch.as_tensor(value, dtype=torch.float64)
    expected = torch.as_tensor(expected, dtype=torch.float64)
    _shape(value, tuple(expected.shape))
    yours = f" (yours: {float(value):.4g})" if value.ndim == 0 else ""
    _require(_same(value, expected), hint + yours)


def _cases(cases: list[dict], answer: Callable) -> None:
    """Check an answer on inputs of the json file: lists of numbers become tensors."""
    for case in cases:
        inputs = [_as_input(value) for value in case["inputs"]]
        value = torch.as_tensor(answer(*inputs), dtype=torch.float64)
        expected = torch.tensor(case["expected"], dtype=torch.float64)
        _shape(value, tuple(expected.shape), case.get("shape", ""))
        for hint, wrong in case.get("mistakes", {}).items():
            wrong = torch.tensor(wrong, dtype=torch.float64)
            _require(not _same(value, wrong), hint)
        _close(value, expected, case["hint"])


def _as_input(value: Any) -> Any:
    texts = isinstance(value, list) and isinstance(value[0], str)
    return torch.tensor(value) if isinstance(value, list) and not texts else value


def _sphere(n: int, *, seed: int) -> torch.Tensor:
    """Return (n, 8) random unit rows, as stand-ins for embeddings."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, 8, generator=generator), dim=-1)


def _loudness(loudness: Callable) -> None:
    _close(loudness(torch.ones(9)), 0.0, "a wave of all ones has a level of 0 dB")
    hint = "all 0.1 is at -20 dB: 20·log10 goes with amplitude, 10·log10 with power"
    _close(loudness(0.1 * torch.ones(9)), -20.0, hint)
    level = loudness(torch.tensor([1.0, 0.0, -1.0, 0.0]))
    _close(level, -3.0103, "not the RMS: square first, then the mean, then the root")


def _mix_noise(mix_noise: Callable) -> None:
    generator = torch.Generator().manual_seed(7)
    voice, noise = torch.randn(2, 4000, generator=generator) * torch.tensor([[1], [5]])
    for snr_db in (10.0, 0.0, -6.0):
        added = mix_noise(voice, noise, snr_db) - voice
        _require(not _same(added, noise), "the noise was added as is: scale it first")
        parallel = cosine_similarity(added, noise, dim=0) > 0.999
        _require(parallel, "the voice must stay as it is: scale the noise alone")
        snr = 20 * (voice.norm() / added.norm()).log10()
        _close(snr, snr_db, "measure both powers; amplitudes take the root of a ratio")


def _nearest_text(nearest_text: Callable) -> None:
    text = _sphere(4, seed=1)
    audio = normalize(text[[2, 0, 3, 3, 1]] + 0.1 * _sphere(5, seed=2), dim=-1)
    rows = torch.as_tensor(nearest_text(audio, text))
    _shape(rows, (5,), ": take the best over the sentences, not over the clips")
    farthest = (audio @ text.T).argmin(dim=1).equal(rows)
    _require(not farthest, "these are the farthest sentences: a high cosine is near")
    _close(rows, [2, 0, 3, 3, 1], "the nearest sentences here are [2, 0, 3, 3, 1]")


def _uar(uar: Callable) -> None:
    truth = ["sad"] * 8 + ["happy"] * 2
    always, half = ["sad"] * 10, ["sad"] * 4 + ["happy"] * 6
    _close(uar(truth, always), 0.5, "this is accuracy; average the classes' recalls")
    _close(uar(truth, half), 0.75, "recall divides by how often a class is true")


def _label_targets(label_targets: Callable) -> None:
    targets = torch.as_tensor(label_targets(torch.tensor([0, 1, 0, 2]))).float()
    _shape(targets, (4, 4))
    _require(not _same(targets, torch.eye(4)), "the same emotion is no wrong answer")
    _close(targets.sum(dim=1), [1.0] * 4, "each row is a distribution: it sums to 1")
    rows = [[0.5, 0, 0.5, 0], [0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 1]]
    _close(targets, rows, "share each row equally among clips with the same label")


def _mix_weights(mix_weights: Callable) -> None:
    before = {"w": torch.zeros(2, 3), "b": torch.tensor([1.0])}
    after = {"w": torch.ones(2, 3), "b": torch.tensor([5.0])}
    mixed = mix_weights(before, after, 0.25)
    same_names = isinstance(mixed, dict) and set(mixed) == {"w", "b"}
    _require(same_names, "return a dictionary with the names of the two that came in")
    _close(mixed["b"], [2.0], "a quarter from 1 to 5 is 2; a share of 0 is `before`")
    _close(mixed["w"], torch.full((2, 3), 0.25), "every tensor is mixed alike")
    _close(before["b"], [1.0], "you changed `before` itself; make new tensors")


def _leave_one_out(leave_one_out: Callable) -> None:
    folds = list(leave_one_out(["hall", "street", "studio"]))
    _require(len(folds) == 3, f"3 domains make 3 folds, not {len(folds)}")
    for train, test in folds:
        _require(test not in train, f"{test!r} is tested and trained on: leakage")
        _require(len(train) == 2, f"{test!r} is left out, so 2 remain")
    tested = sorted(test for _, test in folds)
    _require(tested == ["hall", "street", "studio"], "each domain is left out once")


def _paired_interval(paired_interval: Callable) -> None:
    generator = torch.Generator().manual_seed(12)
    one, other = (torch.rand(2, 60, generator=generator) > 0.5).int().numpy()
    draws = torch.randint(60, (400, 60), generator=generator).numpy()
    ends = torch.tensor([float(x) for x in paired_interval(one, other, draws)])
    _shape(ends, (2,), ": a low and a high end")
    gains = torch.as_tensor((one - other)[draws].mean(axis=1)).float()
    expected = gains.quantile(torch.tensor([0.025, 0.975]))
    swapped = _same(ends, -expected.flip(0))
    _require(not swapped, "the first method minus the other, not the other way round")
    wide = ends.diff() > 1.2 * expected.diff()
    _require(not wide, "too wide: draw the same rows for both, subtract first")
    _close(ends, expected, "too narrow? the 2.5th and 97.5th percentile of the means")


def _n_windows(n_windows: Callable) -> None:
    for seconds, expected in ((2.0, 1), (3.0, 1), (3.5, 2), (6.0, 2), (7.0, 3)):
        hint = f"{seconds} s in windows of 3 s need {expected}: round up"
        _close(n_windows(seconds, 3.0), expected, hint)


def _hours_needed(hours_needed: Callable) -> None:
    hours = hours_needed(36_000, 4.0, 25.0)
    _require(not _same(hours, 0.04), "this is the small model's time: use the factor")
    _close(hours, 1.0, "36,000 clips of 4 ms, 25 times over, take 3,600 seconds: 1 h")


_CHECKS: dict[str, Callable[[Callable], None]] = {
    "00.1": _loudness,
    "00.2": _mix_noise,
    "01.1": _nearest_text,
    "01.2": _uar,
    "02.1": _label_targets,
    "02.2": _mix_weights,
    "05.1": _leave_one_out,
    "05.3": _paired_interval,
    "06.1": _n_windows,
    "06.2": _hours_needed,
}
_CASES = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
CHECKS = _CHECKS | {number: partial(_cases, _CASES[number]) for number in _CASES}
CHECKS = {number: CHECKS[number] for number in sorted(CHECKS)}
