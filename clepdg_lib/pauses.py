"""Keep Python from pausing while a widget answers.

Python looks for circular garbage now and then, and looks at every object of every
imported library each time: a third of a second, in which a slider seems stuck. What
exists once a widget stands will not become garbage, so it need not be looked at again.

Lesson: every notebook with a widget
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Widget = TypeVar("Widget")


def without_pauses(build: Callable[P, Widget]) -> Callable[P, Widget]:
    """Let a function that builds a widget end by setting aside all that is there.

    Garbage is collected first. What is set aside is still freed when the last
    reference to it goes; only circles among it stay (see `gc.freeze`).
    """

    @wraps(build)
    def built(*args: P.args, **kwargs: P.kwargs) -> Widget:
        widget = build(*args, **kwargs)
        gc.collect()
        gc.freeze()
        return widget

    return built
