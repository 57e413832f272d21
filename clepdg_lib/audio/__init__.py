"""Sound: waves (read, check, prepare) and places (rooms, noises, channels)."""

from importlib import import_module
from typing import Any

_NAMES = {
    "places": "CHANNELS ENVIRONMENTS NOISES ROOMS Environment describe_environment "
    "place",
    "waves": "LEVEL_DB SAMPLE_RATE AudioError as_clips as_wave check_rate "
    "is_silent level prepare read_audio read_recording resample rms_db trim",
}
_HOME_OF = {name: home for home, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"{__name__} has no {name!r}; it has {__all__}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
