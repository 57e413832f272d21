"""Sound: waves (read, check, prepare) and places (rooms, noises, channels)."""

# ruff: noqa: F401, I001 (others import these names from here; a few in each line)
from clepdg_lib.audio.places import CHANNELS, ENVIRONMENTS, NOISES, ROOMS, Environment
from clepdg_lib.audio.places import describe_environment, place
from clepdg_lib.audio.waves import LEVEL_DB, SAMPLE_RATE, AudioError, as_clips, as_wave
from clepdg_lib.audio.waves import check_rate, is_silent, level, prepare, read_audio
from clepdg_lib.audio.waves import read_recording, resample, rms_db, trim
