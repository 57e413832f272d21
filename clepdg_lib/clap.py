"""Two towers, one space: hear a clip, read a sentence, compare.

`Clap` wraps a `transformers.ClapModel` behind three verbs: `embed_audio`,
`embed_text` and `embed_tokens`, the last for sentences of which some words are
vectors that no vocabulary holds (soft prompts). The bundled `clap-mini` and LAION's
checkpoints go through the same class.

Source: Elizalde et al. 2023 and Wu et al. 2023 (CLAP); weights as in transformers.
Lesson: notebooks/01_probe_clap.ipynb
Shapes: n clips or sentences, L tokens, D text width, dim width of the joint space.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from transformers import ClapFeatureExtractor, ClapModel

from clepdg_lib.audio import AudioError, LogMel, check_wave, read_audio, resample
from clepdg_lib.cache import content_key, weights_key
from clepdg_lib.embedding import EmbeddedCorpus, embed_all, embed_corpus
from clepdg_lib.files import data_root
from clepdg_lib.pretrained import REVISIONS, how_to_fetch, read_parts, write_parts
from clepdg_lib.text_tower import text_features
from clepdg_lib.tower import choose_way, hear, plain_features, project

__all__ = ["BUNDLED", "Clap", "EmbeddedCorpus", "embed_corpus", "load_clap"]

BUNDLED = ("clap-mini", "clep-mini")
WORTH_CACHING = 8  # clips: below, finding the model's name takes as long as hearing
Clip = str | Path | torch.Tensor | np.ndarray


class Clap:
    """A CLAP model with its tokenizer and its view of sound.

    Embeddings are float32, L2-normalised, one row per input, on the CPU.

    Attributes:
        model: The `ClapModel`, in evaluation mode.
        log_mel: Turns waves into the pictures that the audio tower sees.
        dim: Width of the joint space.
        width: Of what the audio tower says, before the layers above it.
        name: What it was loaded as.
        history: After fine-tuning, a table with a row for each epoch (or step, if there
            were no epochs); else None.
    """

    def __init__(
        self,
        model: ClapModel,
        tokenizer: Any,
        extractor: ClapFeatureExtractor,
        *,
        name: str = "clap",
        device: str | torch.device = "cpu",
    ) -> None:
        self.model = model.to(device).eval()
        self.tokenizer = tokenizer
        self.extractor = extractor
        self.log_mel = LogMel.from_extractor(extractor)
        self.name = name
        self.device = torch.device(device)
        self.dim = int(model.config.projection_dim)
        self.width = int(model.config.audio_config.hidden_size)
        self.history: pd.DataFrame | None = None
        self._way: Any = "untried"  # how `tower` runs it, chosen at the first clip

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.model.parameters()) / 1e6
        return f"Clap({self.name!r}, dim={self.dim}, {millions:.1f} M parameters)"

    # ---------------------------------------------------------------- sound
    def embed_audio(
        self,
        clips: Sequence[Clip] | Clip,
        *,
        sample_rate: int = 16_000,
        batch_size: int = 64,
        on_error: str = "raise",
        cache: bool = True,
        progress: bool = False,
    ) -> torch.Tensor:
        """Embed clips, as loud as they come.

        A clip longer than the model's window is cut into evenly spaced windows that
        cover it (`LogMel.windows`), and their mean direction stands for it.

        Args:
            clips: ``n`` paths, or 1-D float tensors or arrays at ``sample_rate``.
            sample_rate: Of the tensors, in hertz; files say their own.
            batch_size: Windows that go through the tower at once.
            on_error: ``"raise"``, or ``"skip"`` to leave unusable clips out (the
                result is then shorter) and warn with their count.
            cache: Keep what the tower hears on disk, and use what is kept. Fewer than
                8 clips are heard as fast as looked up, so they are heard.
            progress: Show a bar.

        Returns:
            (n, dim) float32, L2-normalised.

        Raises:
            AudioError: A clip that is no usable sound, or no clips at all.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is {on_error!r}; it must be 'raise' or 'skip'")
        if isinstance(clips, (str, Path)) or getattr(clips, "ndim", 0) == 1:
            clips = [clips]  # one clip is a list of one
        if len(clips) == 0:
            raise AudioError("there are no clips to embed; pass at least one")
        problems: list[str] = []

        def on_bad(i: int, error: AudioError) -> None:
            if on_error == "raise":
                raise error
            problems.append(str(error))

        def key(prefix: str, i: int) -> str:
            if isinstance(clips[i], (str, Path)):
                return content_key(prefix, clips[i])
            wave = np.ascontiguousarray(clips[i])
            about = f"{prefix}|{sample_rate}|{wave.dtype}|{wave.shape}"
            return hashlib.sha256(about.encode() + wave.tobytes()).hexdigest()

        kept, rows = embed_all(
            self,
            lambda i: self._wave(clips[i], sample_rate, f"clip {i}"),
            len(clips),
            key=key if cache and len(clips) >= WORTH_CACHING else None,
            on_bad=on_bad,
            ahead=not all(hasattr(clip, "ndim") for clip in clips),
            batch_size=batch_size,
            progress=progress,
        )
        if problems:
            warnings.warn(
                f"{len(problems)} of {len(clips)} clips left out; the first: "
                f"{problems[0]}",
                stacklevel=2,
            )
        if not kept:
            raise AudioError(f"none of {len(clips)} clips is usable: {problems[0]}")
        return rows

    def embed_mels(self, mels: torch.Tensor, *, batch_size: int = 64) -> torch.Tensor:
        """Embed log-mel pictures (n, 1, frames, mels) -> (n, dim)."""
        return self.project(self.hear_mels(mels, batch_size=batch_size))

    @torch.no_grad()
    def hear_mels(self, mels: torch.Tensor, *, batch_size: int = 64) -> torch.Tensor:
        """Run the audio tower alone: (n, 1, frames, mels) -> (n, width)."""
        if self._way == "untried":
            self._way = choose_way(self.model, n_frames=self.log_mel.n_frames)
        parts = [
            hear(self.model, part.to(self.device), way=self._way).cpu()
            for part in mels.float().split(batch_size)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def project(self, heard: torch.Tensor) -> torch.Tensor:
        """Run the layers above the audio tower: (n, width) -> (n, dim)."""
        return project(self.model, heard.to(self.device)).cpu()

    def audio_features(self, mels: torch.Tensor) -> torch.Tensor:
        """Embed pictures, with gradients: (n, 1, frames, mels) -> (n, dim)."""
        return plain_features(self.model, mels)

    def _wave(self, clip: Clip, sample_rate: int, name: str) -> torch.Tensor:
        if isinstance(clip, (str, Path)):
            return read_audio(clip, sample_rate=self.log_mel.sample_rate)
        wave = check_wave(clip, name=name)
        return resample(wave, from_rate=sample_rate, to_rate=self.log_mel.sample_rate)

    # ----------------------------------------------------------------- text
    @torch.no_grad()
    def embed_text(
        self, texts: Sequence[str] | str, *, batch_size: int = 256
    ) -> torch.Tensor:
        """Embed sentences -> (n, dim).

        Raises:
            ValueError: No sentences, or one that is not a string or is empty.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ValueError("there are no sentences to embed; pass at least one")
        for i, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(
                    f"sentence {i} is {text!r}; each must be a string with words in it"
                )
        parts = []
        for start in range(0, len(texts), batch_size):
            ids, mask = self._tokenize(texts[start : start + batch_size])
            found = self.model.get_text_features(input_ids=ids, attention_mask=mask)
            parts.append(found.pooler_output.float().cpu())
        return torch.cat(parts)

    def token_embeddings(
        self, texts: Sequence[str]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Look sentences up in the token table, before any layer.

        Returns:
            (n, L, D) vectors, specials included, and their (n, L) mask.
        """
        ids, mask = self._tokenize(list(texts))
        return self.model.text_model.get_input_embeddings()(ids).detach(), mask

    def embed_tokens(self, vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Embed sentences given as token vectors, with gradients to the vectors.

        Args:
            vectors: (n, L, D), start and end tokens included.
            mask: (n, L), 1 where a token is.

        Returns:
            (n, dim), exactly `embed_text` of the same tokens.

        Raises:
            ValueError: Shapes that do not fit, or more tokens than the tower has
                positions for.
        """
        config = self.model.config.text_config
        limit = config.max_position_embeddings - config.pad_token_id - 1
        if vectors.ndim != 3 or vectors.shape[-1] != config.hidden_size:
            raise ValueError(
                f"vectors have shape {tuple(vectors.shape)}; they must be "
                f"(n, L, {config.hidden_size})"
            )
        if vectors.shape[1] > limit:
            raise ValueError(
                f"a sentence of {vectors.shape[1]} tokens is too long: this tower "
                f"takes {limit}; use fewer context tokens or a shorter template"
            )
        return F.normalize(text_features(self.model, vectors, mask).float(), dim=-1)

    def _tokenize(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        config = self.model.config.text_config
        batch = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=config.max_position_embeddings - config.pad_token_id - 1,
            return_tensors="pt",
        ).to(self.device)
        return batch["input_ids"], batch["attention_mask"]

    # ---------------------------------------------------------------- files
    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by before a softmax (CLAP's 1 / temperature)."""
        return float(self.model.logit_scale_a.detach().exp())

    def fingerprint(self) -> str:
        """Hash of preprocessing and audio tower, without the layers above it."""
        return weights_key(repr(self.log_mel), self.model.audio_model.state_dict())

    def save(self, folder: str | Path, *, half: bool = False) -> Path:
        """Write the model in Hugging Face layout; `half` stores 16-bit weights."""
        parts = self.model, self.tokenizer, self.extractor
        return write_parts(Path(folder), *parts, half=half)


def load_clap(
    name: str | Path = "clap-mini",
    *,
    device: str | torch.device = "cpu",
    revision: str | None = None,
) -> Clap:
    """Load a CLAP model: bundled, from a folder, or from the Hugging Face hub.

    Args:
        name: "clap-mini", "clep-mini", a folder in Hugging Face layout, or a hub
            name with a slash, such as "laion/clap-htsat-unfused".
        device: Where the model runs.
        revision: Commit of a hub model; default `REVISIONS`' for LAION's.

    Returns:
        The model in float32. Only safetensors are read; no code is run.

    Raises:
        ValueError: An unknown name, a wrong checksum, damaged or pickled weights.
        FileNotFoundError: A hub model that is neither cached nor reachable.
    """
    name = str(name)
    bundled = data_root() / "models" / name
    is_folder = Path(name).is_dir()
    hub_like = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if name in BUNDLED and (bundled / "config.json").is_file():
        source = str(bundled)
    elif (Path(name) / "config.json").is_file() or (hub_like and not is_folder):
        source = name
    else:
        here = [n for n in BUNDLED if (data_root() / "models" / n).is_dir()]
        raise ValueError(
            f"unknown model {name!r}. Valid are the bundled {here}, a folder with a "
            "config.json, or a hub name such as 'laion/clap-htsat-unfused'."
        )
    revision = revision or REVISIONS.get(name)
    try:
        found, tokenizer, extractor = read_parts(
            source, revision=revision, ships=source != name
        )
    except OSError as error:
        if source != name or is_folder:
            raise
        raise FileNotFoundError(how_to_fetch(name, revision)) from error
    label = Path(name).name if source == name and is_folder else name
    return Clap(found, tokenizer, extractor, name=label, device=device)
