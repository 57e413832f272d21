"""Places: rooms, noises and channels that shift a domain, synthesised from a seed.

An environment is physical; an acoustic *context*, in `acpt`, is learned.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.fft import irfft, rfft, rfftfreq
from torch.nn import functional as F
from torchaudio.functional import mu_law_decoding, mu_law_encoding

from clepdg_lib.audio.waves import SAMPLE_RATE, as_wave, check_rate, is_silent, level

CPU = {"dtype": torch.float32, "device": "cpu"}  # whatever the defaults are
# RT60 in seconds, as in surveys by ISO 3382-2 and in the ACE challenge's rooms
ROOM_RT60 = {"small": (0.15, 0.4), "medium": (0.4, 0.9), "large": (1.0, 2.4)}
ROOMS = ("none", *ROOM_RT60)
BAND_HZ = {"telephone": ((200, 400), (2800, 3800)), "radio": ((100, 300), (3800, 5500))}
CHANNELS = ("full", *BAND_HZ)
_DATA = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
NOISES: dict[str, str] = _DATA["noises"]  # kind -> what a caption calls it
LIMITS = {"rt60_seconds": (0, 20), "direct_to_reverb_db": (-60, 60)}
LIMITS |= {"snr_db": (-60, 120), "tilt_db": (-30, 30)}
LIMITS |= {"low_hz": (0, 8000), "high_hz": (1, 8000)}


def _check_choice(what: str, value: str, valid: tuple) -> None:
    if value not in valid:
        raise ValueError(f"{what} is {value!r}; it must be one of {', '.join(valid)}.")


@dataclass(frozen=True)
class Environment:
    """A place in numbers, and in words that follow a clause: "she speaks {caption}"."""

    name: str
    caption: str
    room: str = "none"
    rt60_seconds: float = 0.0  # in which reverberation falls by 60 dB; 0 is no room
    direct_to_reverb_db: float = 20.0  # low means far away
    noise: str = "none"
    snr_db: float = 40.0  # voice, with its reverberation, over noise
    low_hz: float = 0.0  # the pass band
    high_hz: float = 8000.0  # 8000 is no limit
    tilt_db: float = 0.0  # per octave around 1 kHz; below 0 is dull, above 0 thin
    channel: str = "full"  # "telephone" is 8-bit mu-law, "radio" is overdriven

    def __post_init__(self) -> None:
        _check_choice("room", self.room, ROOMS)
        _check_choice("noise", self.noise, ("none", *NOISES))
        _check_choice("channel", self.channel, CHANNELS)
        for name, (low, high) in LIMITS.items():
            if not low <= (value := getattr(self, name)) <= high:
                raise ValueError(f"{name} is {value}; it must be from {low} to {high}.")


ENVIRONMENTS = {k: Environment(k, **x) for k, x in _DATA["environments"].items()}


def place(
    wave: Tensor,
    environment: str | Environment,
    *,
    generator: Generator,
    severity: float = 1.0,
    sample_rate: int = SAMPLE_RATE,
) -> Tensor:
    """Put a wave (n,) into an environment, at -26 dB: a room, a noise, a channel.

    Severity, from 0 (untouched) through 1 (as described) to 3, multiplies the amplitude
    of reverberation and noise; its root, the octaves cut off. Silence stays.
    """
    wave, rate = as_wave(wave), check_rate(sample_rate)
    if not isinstance(environment, Environment):
        _check_choice("environment", environment, tuple(ENVIRONMENTS))
        environment = ENVIRONMENTS[environment]
    if not 0 <= severity <= 3:
        raise ValueError(f"severity is {severity}; it must lie between 0 and 3.")
    if severity == 0 or is_silent(wave):
        return wave.clone()  # no ratio to a voice that is not there
    harder_db, root = 20 * math.log10(severity), math.sqrt(severity)
    how = {"generator": generator, "rate": rate}
    if environment.rt60_seconds > 0:
        ratio_db = environment.direct_to_reverb_db - harder_db
        wave = convolve(wave, room_response(environment.rt60_seconds, ratio_db, **how))
    if environment.noise != "none":
        sound = noise(environment.noise, len(wave), **how)
        ratio = (wave.square().sum() / sound.square().sum().clamp_min(1e-12)).sqrt()
        wave = wave + ratio * 10 ** ((harder_db - environment.snr_db) / 20) * sound
    nyquist = rate / 2
    share = environment.high_hz / nyquist if environment.high_hz < 8000 else 1.0
    band_hz = environment.low_hz * root, nyquist * min(1.0, share) ** root
    tilt_db = environment.tilt_db * severity
    wave = level(filter_band(wave, band_hz, tilt_db=tilt_db, rate=rate))
    if environment.channel == "telephone":  # as in ITU-T G.711
        with torch.device("cpu"):  # where these two make their constants
            wave = mu_law_decoding(mu_law_encoding(wave.clamp(-1, 1), 256), 256)
    elif environment.channel == "radio":
        wave = torch.tanh(6 * severity * wave)
    return level(wave)


def describe_environment(environment: Environment) -> str:
    """Say room, noise and channel in words: "in a large room, with rain"."""
    parts = []
    if environment.room != "none":
        far = "far away " if environment.direct_to_reverb_db < -2 else ""
        parts.append(f"{far}in a {environment.room} room")
    if environment.noise != "none":
        loud = "loud " if environment.snr_db < 8 else ""
        parts.append(f"with {loud}{NOISES[environment.noise]}")
    if environment.channel != "full":
        parts.append(f"over the {environment.channel}")
    return ", ".join(parts) or "close to the microphone, in silence"


def room_response(
    rt60_seconds: float, ratio_db: float, *, generator: Generator, rate: int
) -> Tensor:
    """Impulse response: 1 at sample 0, `ratio_db` over all else, then a dozen echoes.

    Then noise that decays exponentially (Moorer 1979), above 2 kHz twice as fast.
    """
    n = max(64, round(rt60_seconds * rate))
    decay = torch.exp(-math.log(1000) / rt60_seconds * (torch.arange(n, **CPU) / rate))
    rough = torch.randn(n, generator=generator, **CPU)
    smooth = F.avg_pool1d(rough[None], kernel_size=5, stride=1, padding=2)[0]
    tail = smooth * decay + (rough - smooth) * decay.square()
    # The bigger the room, the later its first echo; reflections grow dense with time.
    first = 1 + round(min(0.015, 0.004 + 0.006 * rt60_seconds) * rate)
    tail[: min(first, n // 2)] = 0
    span = min(n - 1, first + round(0.05 * rate))
    echoes = {"size": (12,), "generator": generator, "device": "cpu"}
    where = torch.randint(min(first, span - 1), span, **echoes)
    sign = torch.randint(0, 2, **echoes).float() * 2 - 1
    tail[where] += 3.0 * sign * decay[where]
    tail[0] = 0
    energy = tail.square().sum().clamp_min(1e-12)
    tail *= (10 ** (-ratio_db / 10) / energy).sqrt()
    tail[0] = 1.0
    return tail


def convolve(wave: Tensor, response: Tensor) -> Tensor:
    """First n samples of the convolution, at a length that the FFT likes."""
    n, response = len(wave), response[: len(wave)]
    n_fft = _fast_length(n + len(response))
    return irfft(rfft(wave, n_fft) * rfft(response, n_fft), n_fft)[:n]


def filter_band(wave: Tensor, band_hz: tuple, *, tilt_db: float, rate: int) -> Tensor:
    """Zero-phase band pass (eighth-order Butterworth slopes) and tilt per octave."""
    low_hz, high_hz = band_hz
    n_fft = _fast_length(len(wave) + 1024)  # room for the filter's ringing
    hertz = rfftfreq(n_fft, 1 / rate, **CPU)
    gain = 10 ** (tilt_db / 20 * (hertz.clamp_min(50) / 1000).log2())
    gain /= (1 + (low_hz / hertz.clamp_min(1e-3)) ** 16).sqrt()
    if high_hz < rate / 2:
        gain /= (1 + (hertz / high_hz) ** 16).sqrt()
    return irfft(rfft(wave, n_fft) * gain, n_fft)[: len(wave)]


def noise(kind: str, n: int, *, generator: Generator, rate: int) -> Tensor:
    """Synthesise n samples of a noise in `NOISES`, at an RMS of 0.1."""
    seconds = torch.arange(n, **CPU) / rate

    def shaped(amplitude: Callable) -> Tensor:  # noise, by its spectrum
        n_fft = _fast_length(n)
        hertz = rfftfreq(n_fft, 1 / rate, **CPU).clamp_min(20.0)
        parts = torch.randn(2, len(hertz), generator=generator, **CPU)
        return irfft(torch.complex(*parts) * amplitude(hertz), n_fft)[:n]

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, **CPU)

    def curve(per_second: float) -> Tensor:  # random, from 0 to 1
        knots = draw(0, 1, 1, 1, max(4, round(n / rate * per_second) + 2))
        return F.interpolate(knots, size=n, mode="linear", align_corners=True)[0, 0]

    def strikes(per_second: Tensor) -> Tensor:  # single samples from 0 to 1
        shape = (max(1, round(n / rate * float(per_second))),)
        when = torch.randint(0, n, shape, generator=generator, device="cpu")
        return torch.zeros(n, **CPU).index_put_((when,), draw(0, 1, *shape))

    def chord(turn: Tensor, power: float) -> Tensor:  # three harmonics
        return sum(torch.sin(turn * h) / h**power for h in (1, 2, 3))

    match kind:
        case "white":
            sound = torch.randn(n, generator=generator, **CPU)
        case "pink":
            sound = shaped(lambda f: f**-0.5)
        case "hum":
            coin = torch.randint(2, (), generator=generator, device="cpu")
            mains = 60.0 if coin else 50.0
            sound = _unit(shaped(lambda f: f**-0.5))  # hiss under the tones
            for harmonic in range(1, 9):
                turn = 2 * math.pi * mains * harmonic * seconds + draw(0, 2 * math.pi)
                sound += 6.0 * draw(0.3, 1) / harmonic * torch.sin(turn)
        case "traffic":
            rumble = shaped(lambda f: 1 / (1 + (f / 150) ** 1.3))
            tyres = shaped(lambda f: f / (1 + (f / 900) ** 2.5))
            sound = _unit(rumble) + 1.2 * curve(0.8).square() * _unit(tyres)
        case "fan":
            air = shaped(lambda f: 1 / (1 + (f / 400) ** 1.1))
            tone = chord(2 * math.pi * draw(60, 140) * seconds, 1)
            sound = _unit(air) * (1 + 0.1 * tone) + 0.25 * tone
        case "rain":
            hiss = shaped(lambda f: 1 / (1 + (1500 / f) ** 2))
            drops = strikes(draw(40, 150)).square()
            time = seconds[: max(8, rate // 200)]
            ring = torch.sin(2 * math.pi * 2500 * time) * torch.exp(-900 * time)
            sound = _unit(hiss) + 3.0 * _unit(convolve(drops, ring))
        case "wind":
            air = shaped(lambda f: 1 / (1 + (f / 120) ** 1.6))
            sound = air * (0.15 + curve(2.0).square())
        case "clicks":
            keys = strikes(draw(5, 10))
            keys = torch.where(keys > 0, 0.4 + 0.6 * keys, 0)
            time = seconds[: max(16, rate // 50)]
            burst = torch.randn(len(time), generator=generator, **CPU)
            sound = convolve(keys, burst * torch.exp(-250 * time))
            sound += 0.003 * torch.randn(n, generator=generator, **CPU)
        case "babble":  # four talkers with syllables of random vowels
            size = rate // 4 // 2 * 2  # a quarter of a second, overlapping by half
            each = (4, 2 * n // size + 2, 1)  # talkers, syllables
            time = torch.arange(size, **CPU) / rate
            pitch = draw(90, 230, 4, 1, 1) * draw(0.85, 1.15, *each)
            buzz = 2 * ((pitch * (1 - draw(0, 0.4, *each) * time) * time) % 1) - 1
            hertz = rfftfreq(size, 1 / rate, **CPU)
            formants = 1 / (1 + ((hertz - draw(300, 800, *each)) / 120) ** 2)
            formants += 0.5 / (1 + ((hertz - draw(900, 2200, *each)) / 180) ** 2)
            spoken = irfft(rfft(buzz) * formants, size) * draw(0, 1, *each).square()
            frames = (spoken * torch.hann_window(size, **CPU)).sum(dim=0)
            length = size // 2 * (len(frames) + 1)
            sound = F.fold(frames.T, (1, length), (1, size), stride=(1, size // 2))
            sound = sound.flatten()[: -(size // 2)][-n:]
        case "music":  # plucked chords, two a second
            time = torch.arange(rate // 2, **CPU) / rate
            scale = torch.tensor([0, 3, 5, 7, 10, 12, 15], **CPU)
            shape = (n // len(time) + 1, 3, 1)
            notes = torch.randint(0, 7, shape, generator=generator, device="cpu")
            hertz = draw(150, 260) * 2 ** (scale[notes] / 12)
            tones = chord(2 * math.pi * hertz * time, 1.5)
            sound = (tones.sum(dim=1) * torch.exp(-5 * time)).reshape(-1)
    return 0.1 * _unit(sound[:n])


def _unit(sound: Tensor) -> Tensor:
    """Scale to RMS 1."""
    return sound / sound.square().mean().sqrt().clamp_min(1e-9)


def _fast_length(n: int) -> int:
    """Next length that is a small number times a power of two."""
    return min(m << max(0, math.ceil(math.log2(n / m))) for m in (8, 9, 10, 12, 15))
