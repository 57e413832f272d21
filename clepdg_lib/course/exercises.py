"""The checks of the exercises: student functions on small inputs, hints on mistakes.

`exercises.json` has the cases of most: inputs, expected result, usual wrong results.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

RIGHT, NOT_YET, WRONG = "✅", "⏳", "❌"


class GradedError(Exception):
    """An answer is not right: (mark, hint)."""


def grade(number: str, answer: Any) -> tuple[str, str]:
    """Return mark and message for an answer: the student's function, or ``...``.

    A number that is no exercise's raises ValueError.
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


def _tensor(value: Any) -> torch.Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def _same(value: Any, expected: Any) -> bool:
    return torch.allclose(_tensor(value), _tensor(expected), atol=1e-4)


def _compare(value: Any, case: dict[str, Any]) -> None:
    """Compare a result with a case's usual mistakes, and with what is expected."""
    yours, right = (tuple(_tensor(v).shape) for v in (value, case["expected"]))
    advice = case.get("shape", "")
    _require(yours == right, f"the shape is {yours}, it should be {right}{advice}")
    for hint, wrong in case.get("mistakes", {}).items():
        _require(not _same(value, wrong), hint)
    number = "" if right else f" (yours: {float(value):.4g})"
    _require(_same(value, case["expected"]), case["hint"] + number)


def _check_cases(cases: list[dict], answer: Callable) -> None:
    """Check an answer on inputs of the json file: lists of numbers become tensors."""
    for case in cases:
        _compare(answer(*map(_as_input, case["inputs"])), case)


def _as_input(value: Any) -> Any:
    texts = isinstance(value, list) and isinstance(value[0], str)
    return torch.tensor(value) if isinstance(value, list) and not texts else value


def _mix_weights(mix_weights: Callable) -> None:
    before = {"w": torch.zeros(2, 3), "b": torch.tensor([1.0])}
    after = {"w": torch.ones(2, 3), "b": torch.tensor([5.0])}
    mixed = mix_weights(before, after, 0.25)
    same_names = isinstance(mixed, dict) and set(mixed) == {"w", "b"}
    _require(same_names, "return a dictionary with the names of the two that came in")
    hint = "a quarter from 1 to 5 is 2; a share of 0 is `before`"
    _compare(mixed["b"], {"expected": [2.0], "hint": hint})
    case = {"expected": torch.full((2, 3), 0.25), "hint": "every tensor is mixed alike"}
    _compare(mixed["w"], case)
    _require(before["b"] == 1, "you changed `before` itself; make new tensors")


def _nested_folds(nested_folds: Callable) -> None:
    domains = ["hall", "street", "studio"]
    folds = list(nested_folds(domains))
    pairs = {(validation, test) for _, validation, test in folds}
    hint = f"3 tests, 2 validation sets each: 6 triples, not {len(pairs)} different"
    for train, *used in folds:
        _require(used[0] != used[1], f"{used[1]!r} is chosen by and tested on: rule 3")
        _require([*train] == [*{*domains} - {*used}], f"{used} are not trained on")
    _require(len(pairs) == len(folds) == 6, hint)


def _paired_interval(paired_interval: Callable) -> None:
    generator = torch.Generator().manual_seed(12)
    one, other = (torch.rand(2, 60, generator=generator) > 0.5).int().numpy()
    draws = torch.randint(60, (400, 60), generator=generator).numpy()
    ends = _tensor([float(x) for x in paired_interval(one, other, draws)])
    gains = _tensor((one - other)[draws].mean(axis=1))
    expected = gains.quantile(_tensor([0.025, 0.975]))
    wide = len(ends) == 2 and ends.diff() > 1.2 * expected.diff()
    _require(not wide, "too wide: draw the same rows for both, subtract first")
    swapped = "the first method minus the other, not the other way round"
    case = {"shape": ": a low and a high end", "mistakes": {swapped: -expected.flip(0)}}
    case["hint"] = "too narrow? the 2.5th and 97.5th percentile of the means"
    _compare(ends, case | {"expected": expected})


CODED = {"02.2": _mix_weights, "05.1": _nested_folds, "05.2": _paired_interval}
CASES = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
CHECKS = CODED | {number: partial(_check_cases, CASES[number]) for number in CASES}
CHECKS = {number: CHECKS[number] for number in sorted(CHECKS)}
