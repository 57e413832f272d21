"""What an audio tower trains on: log-mel pictures of clips, clean and in places.

Reading, trimming and placing every clip in every epoch would cost more than the
training itself, so a corpus is drawn once: each clip clean, and in a few random
environments, in half precision. The pictures are kept in the cache directory.

Lesson: notebooks/02_finetune_clep.ipynb
Shapes: n clips, V versions (the clean one first), F frames, M mel bands.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from clepdg_lib.audio import AudioError, LogMel, resample
from clepdg_lib.cache import load_arrays, store_arrays
from clepdg_lib.captions import PROPERTIES
from clepdg_lib.corpora import Corpus
from clepdg_lib.environments import place, random_environment
from clepdg_lib.files import cache_root

PLACES = ("room", "channel", "noise")  # aspects of captions.PROPERTIES


@dataclass(frozen=True)
class Pictures:
    """Drawn clips.

    Attributes:
        mels: (n, V, F, M) float16 log-mels in decibels.
        places: (n, V, 3) int8: level of room, channel and noise in
            `captions.PROPERTIES`, or -1 where nobody knows.
        kept: (n,) row numbers of the corpus's table; bad files are missing.
    """

    mels: np.ndarray
    places: np.ndarray
    kept: np.ndarray

    def __len__(self) -> int:
        return len(self.mels)

    def rows(self, index: np.ndarray) -> Pictures:
        """Keep some clips."""
        return Pictures(self.mels[index], self.places[index], self.kept[index])


def draw_clip(
    wave: torch.Tensor, log_mel: LogMel, *, n_places: int, generator: torch.Generator
) -> tuple[torch.Tensor, np.ndarray]:
    """Draw one clip clean and in random environments.

    The clean picture shows the clip's middle. Each placed one starts anywhere and
    plays up to 6 % faster or slower: another length of throat, another tempo.

    Args:
        wave: (samples,) at the model's sample rate.
        log_mel: The model's view.
        n_places: Environments to draw.
        generator: Source of every draw.

    Returns:
        (1 + n_places, F, M) log-mels and (1 + n_places, 3) places.
    """
    rate = log_mel.sample_rate
    versions = [_cut(wave, log_mel.n_samples, 0.5)]
    places = np.full((1 + n_places, len(PLACES)), -1, np.int8)
    for v in range(1, 1 + n_places):
        start, bend = torch.rand(2, generator=generator).tolist()
        piece = _cut(wave, round(1.1 * log_mel.n_samples), start)
        as_if = round(rate * (0.94 + 0.12 * bend))
        piece = resample(piece, from_rate=as_if, to_rate=rate)[: log_mel.n_samples]
        spot = random_environment(generator)
        versions.append(place(piece, spot, generator=generator, sample_rate=rate))
        for k, aspect in enumerate(PLACES):
            places[v, k] = list(PROPERTIES[aspect]).index(getattr(spot, aspect))
    return log_mel(versions)[:, 0], places


def draw_corpus(
    corpus: Corpus,
    log_mel: LogMel,
    *,
    n_places: int = 2,
    seed: int = 0,
    cache: bool = True,
    progress: bool = False,
) -> Pictures:
    """Draw every clip of a corpus; files that cannot be read are left out.

    A clip's draws depend on the seed and its name alone, so a part of a corpus gets
    the same pictures as the whole.

    Args:
        corpus: ``n`` clips.
        log_mel: The model's view.
        n_places: Environments for each clip.
        seed: Of the environments.
        cache: Keep the pictures on disk, and use those kept.
        progress: Show a bar.

    Raises:
        AudioError: Not one file can be read.
    """
    file = cache_root() / "pictures" / f"{_key(corpus, log_mel, n_places, seed)}.npz"
    if cache and (arrays := load_arrays(file)):
        return Pictures(arrays["mels"], arrays["places"], arrays["kept"])
    shape = (len(corpus), 1 + n_places, log_mel.n_frames, log_mel.n_mels)
    mels = np.empty(shape, np.float16)
    places = np.empty((len(corpus), 1 + n_places, len(PLACES)), np.int8)
    kept: list[int] = []
    waves = corpus.iter_waves()
    total = len(corpus)
    bar = tqdm(waves, total=total, desc="drawing", unit="clip", disable=not progress)
    for i, wave in bar:
        wave = resample(wave, from_rate=16_000, to_rate=log_mel.sample_rate)
        drawn, where = draw_clip(
            wave,
            log_mel,
            n_places=n_places,
            generator=clip_generator(corpus.clips["clip"].iloc[i], seed=seed),
        )
        mels[len(kept)], places[len(kept)] = drawn.numpy(), where
        kept.append(i)
    if not kept:
        raise AudioError(f"{corpus.name}: none of its {total} clips can be read")
    found = Pictures(mels[: len(kept)], places[: len(kept)], np.array(kept))
    if cache:
        store_arrays(file, **vars(found))
    return found


def clip_generator(clip: str, *, seed: int) -> torch.Generator:
    """Random numbers that belong to one clip, whatever stands around it."""
    digest = hashlib.sha256(f"{seed}|{clip}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def _cut(wave: torch.Tensor, n_samples: int, where: float) -> torch.Tensor:
    start = round(max(0, wave.numel() - n_samples) * where)
    return wave[start : start + n_samples]


@functools.cache
def _drawing() -> bytes:
    """Hash of the code that draws: pictures by other code are other pictures."""
    here = Path(__file__).parent
    names = ["audio", "reading", "containers", "waves"]
    names += ["environments", "noises", "rooms", "pictures"]
    return hashlib.sha256(
        b"".join((here / f"{name}.py").read_bytes() for name in names)
    ).digest()


def _key(corpus: Corpus, log_mel: LogMel, n_places: int, seed: int) -> str:
    digest = hashlib.sha256(f"{log_mel}|{n_places}|{seed}".encode() + _drawing())
    for path in corpus.clips["path"]:
        file = Path(path)
        size = file.stat().st_size if file.is_file() else -1
        digest.update(f"{path}|{size}\n".encode())
    return f"{corpus.name[:40]}-{digest.hexdigest()[:24]}"
