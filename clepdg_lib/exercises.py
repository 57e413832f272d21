"""How an answer to an exercise is judged: right, not attempted, or wrong with a hint.

The checks themselves are in `checks`. A function that returns ``...`` was not
attempted; one that raises is wrong, and never stops a notebook.

Lesson: every notebook; `lesson.check` prints the verdict.
"""

from __future__ import annotations

from typing import Any

from clepdg_lib.checks import CHECKS

__all__ = ["CHECKS", "NOT_YET", "RIGHT", "WRONG", "NotAttemptedError", "judge"]

RIGHT, NOT_YET, WRONG = "✅", "⏳", "❌"


class NotAttemptedError(Exception):
    """The student's function still returns ``...``, or nothing."""


def judge(number: str, answer: Any) -> tuple[str, str]:
    """Judge an answer: (mark, sentence).

    Args:
        number: Of the exercise, such as "03.1".
        answer: The student's function or value; ``...`` if not attempted.

    Raises:
        ValueError: There is no such exercise.

    Example:
        >>> judge("01.2", ...)[0]
        '⏳'
    """
    if number not in CHECKS:
        raise ValueError(f"no exercise {number!r}; there are {', '.join(CHECKS)}")
    try:
        CHECKS[number](_guard(answer))
    except NotAttemptedError as error:
        return NOT_YET, str(error)
    except AssertionError as error:
        return WRONG, str(error)
    except Exception as error:  # a student's code may raise anything
        return WRONG, f"your code stopped with {type(error).__name__}: {error}"
    return RIGHT, "right"


def _guard(answer: Any) -> Any:
    """Wrap a student's function so that an untouched one is told apart."""
    if answer is ... or answer is NotImplemented:
        raise NotAttemptedError("not attempted yet: replace the ... by your answer")
    if not callable(answer):
        return answer

    def attempt(*args: Any) -> Any:
        result = answer(*args)
        if result is ... or result is NotImplemented:
            raise NotAttemptedError("not attempted yet: replace the ... by your code")
        if result is None:
            raise NotAttemptedError("your function returns nothing; is `return` there?")
        return result

    return attempt
