"""Two towers, one space: embed a clip, embed a sentence, compare.

Sources: Elizalde et al. 2023 and Wu et al. 2023 (CLAP).
Shapes: n clips or sentences, L tokens, D width of a tower, dim of the joint space.
"""

import json
import numbers
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers.models.clap.modeling_clap import ClapProjectionLayer

from clepdg_lib import audio, files
from clepdg_lib.audio import AudioError
from clepdg_lib.towers import AudioTower, HtsatTower, TextTower, build_audio_tower

FORMAT = "clepdg-clap-2"  # of a folder that `Clap.save` writes
PREPARATION = "dc, trim, level: 1"  # raise when `audio.prepare` changes a sound
READ_AHEAD, AT_ONCE = 16, 128  # clips
MAX_SAMPLES = 40_000_000  # of the clips that are encoded together, 160 MB
# Commits of LAION's checkpoints: a name alone would give whatever the hub holds today.
REVISIONS = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
ALIKE = 0.9999  # cosine above which two sentences cannot be told apart
DAMAGES = (SafetensorError, json.JSONDecodeError, RuntimeError, KeyError, TypeError)


def pin_defaults(function: Callable) -> Callable:
    """Decorate a function: new tensors are float32 on the CPU, whatever torch's are."""

    @wraps(function)
    def run(*args: Any, **keywords: Any) -> Any:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            if torch.get_default_device().type == "cpu":  # a mode slows every call
                return function(*args, **keywords)
            with torch.device("cpu"):
                return function(*args, **keywords)
        finally:
            torch.set_default_dtype(before)

    return run


def check_range(
    *, least: float, most: float = 1e6, whole: bool = False, **settings: Any
) -> None:
    """Refuse settings that are no numbers, or whole numbers, from least to most."""
    kind = numbers.Integral if whole else numbers.Real
    for name, value in settings.items():
        if not isinstance(value, kind) or not least <= value <= most:  # as NaN is
            limits = f"{'a whole number' if whole else 'a number'} from {least:g}"
            raise ValueError(f"{name} is {value!r}; it must be {limits} to {most:g}")


@pin_defaults
def check_rows(vectors: Any, *, name: str, dim: int | None = None) -> Tensor:
    """Return (n, dim) float32 vectors on the CPU, or say what is wrong."""
    vectors = torch.as_tensor(vectors).detach().float().cpu()
    fits = vectors.ndim == 2 and len(vectors) and dim in (None, vectors.shape[1])
    finite = vectors.sum().isfinite() or vectors.isfinite().all()  # the fast way first
    if not fits or not finite:
        wanted = f"finite numbers, (n, {dim or 'dim'}), such as a Clap gives"
        raise ValueError(f"{name} of shape {tuple(vectors.shape)} must be {wanted}")
    return vectors


def refuse_alike(texts: Tensor, names: Sequence[str]) -> None:
    """Refuse classes whose text embeddings (E, dim) cannot be told apart."""
    units = F.normalize(texts, dim=-1)
    cosines = (units @ units.T).fill_diagonal_(-1)
    if cosines.max() > ALIKE:
        i, j = divmod(int(cosines.argmax()), len(names))
        pair = f"{names[i]!r} from {names[j]!r}"
        raise ValueError(f"the text tower cannot tell {pair}; use English words")


class Clap(nn.Module):
    """A contrastive language-audio model; embeddings are unit rows on the CPU."""

    def __init__(
        self,
        audio_tower: AudioTower,
        text_tower: TextTower,
        *,
        audio_projection: nn.Module,
        text_projection: nn.Module,
        logit_scale: float = 1 / 0.07,
        name: str = "clap",
    ) -> None:
        super().__init__()
        self.audio_tower, self.text_tower = audio_tower, text_tower
        self.audio_projection, self.text_projection = audio_projection, text_projection
        self.logit_scale, self.name = float(logit_scale), name  # 1 / temperature
        self.width, self.sample_rate = audio_tower.width, audio_tower.sample_rate
        self.dim = int(list(text_projection.parameters())[-1].shape[0])
        self.history: Any = None  # of the fine-tuning, a table
        self.eval().requires_grad_(False)

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.parameters()) / 1e6
        return f"Clap({self.name!r}, dim={self.dim}, {millions:.1f} M parameters)"

    @property
    def device(self) -> torch.device:
        return self.text_tower.table.device

    def with_projection(self, audio_projection: nn.Module, *, name: str) -> "Clap":
        """A model that shares all but the audio projection."""
        parts = dict(self.named_children())
        parts["audio_projection"] = audio_projection.to(self.device)
        return Clap(**parts, logit_scale=self.logit_scale, name=name)

    def embed_audio(self, clips: Any, **options: Any) -> Tensor:
        """Embed clips -> (n, dim), with the options of `audio_features`."""
        return self.project(self.audio_features(clips, **options))

    def audio_features(
        self,
        clips: Any,
        *,
        sample_rate: int = 16_000,
        batch_size: int = 16,
        progress: bool = False,
    ) -> Tensor:
        """Run the audio tower on prepared clips -> (n, width).

        Clips are n paths, or 1-D waves at `sample_rate`; one clip stands for a list.
        One that is unusable or silent raises an `AudioError`.
        """
        sample_rate, clips = audio.check_rate(sample_rate), audio.as_clips(clips)

        def read(i: int) -> Tensor:
            if isinstance(clips[i], Path):
                wave = audio.read_audio(clips[i], sample_rate=self.sample_rate)
            else:
                wave = audio.as_wave(clips[i], name=f"clip {i}")
                rates = {"from_rate": sample_rate, "to_rate": self.sample_rate}
                wave = audio.resample(wave, **rates)
            return audio.prepare(wave, sample_rate=self.sample_rate)

        options = {"batch_size": batch_size, "progress": progress}
        options["ahead"] = any(isinstance(clip, Path) for clip in clips)
        rows = dict(self.stream_features(read, range(len(clips)), **options))
        if not rows:
            raise AudioError("there are no clips; pass at least one")
        return torch.stack([*rows.values()])

    def stream_features(
        self,
        read: Callable[[int], Tensor],
        numbers: Sequence[int],
        *,
        problems: dict[int, AudioError] | None = None,
        ahead: bool = True,
        batch_size: int = 16,
        progress: bool = False,
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield number and features (width,) of each usable clip, in order.

        `read` gives its prepared wave, `ahead` of time in other threads. `problems`
        collects each `AudioError`, also of a silent clip; without it, the first raises.
        """
        check_range(least=1, whole=True, batch_size=batch_size)
        encode, waves = pin_defaults(self.audio_tower.features), {}
        bar = tqdm(numbers, desc="embedding", unit="clip", disable=not progress)
        now = (partial(read, i) for i in numbers)
        calls = _call_ahead(read, numbers) if ahead else now
        for i, call in zip(bar, calls, strict=True):
            try:
                if not (wave := call()).any():
                    raise AudioError(f"clip {i} is silent; leave it out")
                waves[i] = wave
            except AudioError as error:
                if problems is None:
                    raise
                problems[i] = error
            full = sum(map(len, waves.values())) > MAX_SAMPLES
            if waves and (full or len(waves) == AT_ONCE or i == numbers[-1]):
                rows = encode([*waves.values()], batch_size=int(batch_size))
                yield from zip(waves, rows, strict=True)
                waves.clear()
        if problems:
            n, first = len(problems), next(iter(problems.values()))
            warnings.warn(f"{n} clips left out; the first: {first}", stacklevel=2)

    @torch.no_grad()
    @pin_defaults
    def project(self, features: Tensor) -> Tensor:
        """Embed the audio tower's features: (n, width) -> (n, dim)."""
        features = torch.as_tensor(features).float().to(self.device)
        return F.normalize(self.audio_projection(features).float(), dim=-1).cpu()

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        """Embed a sentence or several -> (n, dim)."""
        check_range(least=1, whole=True, batch_size=batch_size)
        texts = [texts] if isinstance(texts, str) else list(texts)
        order = np.argsort([len(str(text)) for text in texts], kind="stable")
        rows = torch.empty(len(texts), self.dim, device="cpu", dtype=torch.float32)
        starts = range(0, max(1, len(texts)), batch_size)
        for part in (order[i : i + batch_size] for i in starts):  # of like length
            tokens = self.token_embeddings([texts[i] for i in part])
            rows[part] = self.embed_tokens(*tokens).cpu()
        return rows

    @pin_defaults
    def token_embeddings(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Look sentences up in the token table -> (n, L, D) and mask (n, L)."""
        if not texts or not all(isinstance(t, str) and t.strip() for t in texts):
            raise ValueError(f"texts are {texts!r:.200}; pass one or more sentences")
        ids, mask = self.text_tower.tokenize(texts)
        return self.text_tower.table[ids].detach(), mask

    @pin_defaults
    def embed_tokens(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Embed token vectors (n, L, D), mask (n, L) -> (n, dim), with gradients."""
        shape, limit = tuple(vectors.shape), self.text_tower.max_tokens
        if len(shape) != 3 or shape[1] > limit or shape[2] != self.text_tower.width:
            takes = f"(n, up to {limit} tokens, {self.text_tower.width})"
            remedy = "use fewer context tokens or a shorter template"
            raise ValueError(f"vectors have shape {shape}; must be {takes}: {remedy}")
        features = self.text_tower(vectors, mask)
        return F.normalize(self.text_projection(features).float(), dim=-1)

    def fingerprint(self) -> str:
        """Hash of the preparation of waves and of the audio tower alone."""
        return f"{self.audio_tower.fingerprint()}|{PREPARATION}"

    def refuse_other_tower(self, data: Any) -> None:
        """Refuse features of which `tower` says that another tower made them."""
        if getattr(data, "tower", "") not in ("", self.fingerprint()):
            remedy = "use that model, or one made from it, or embed the clips again"
            raise ValueError(f"the features are not of {self.name}'s tower; {remedy}")

    def save(self, folder: str | Path, *, towers: str | None = None) -> Path:
        """Write safetensors and checksums: towers in 16 bits, or a path to `towers`."""
        folder = files.as_path(folder)
        config = {"format": FORMAT, "name": self.name, "logit_scale": self.logit_scale}
        config |= {"towers": towers or ".", "audio_tower": self.audio_tower.config}
        config["text_tower"] = self.text_tower.config
        weights: dict[str, dict[str, Tensor]] = {"projections": {}}
        for key, value in self.state_dict().items():
            part = key.partition(".")[0]
            if part.endswith("_projection"):
                weights["projections"][key] = value.cpu().contiguous()
            elif value.is_floating_point() and towers is None:
                weights.setdefault(part, {})[key] = value.half().cpu().contiguous()
        contents: dict[str, Any] = {"made_with.json": files.versions()}
        for part, tensors in weights.items():
            _refuse_infinite(tensors, where=folder)
            contents[f"{part}.safetensors"] = save(tensors)
        if towers is None:
            tokenizer = self.text_tower.tokenizer
            rules = json.loads(tokenizer.backend_tokenizer.to_str())
            contents["tokenizer.json"] = rules | {"padding": None, "truncation": None}
            names = {"tokenizer_class": "PreTrainedTokenizerFast"}
            contents["tokenizer_config.json"] = names | tokenizer.special_tokens_map
        contents["config.json"] = config  # the last: without it there is no model
        for name, content in contents.items():
            if isinstance(content, dict):
                content = json.dumps(content, indent=2) + "\n"
            files.write_atomically(folder / name, content)
        files.write_checksums(folder)  # until then the old ones refuse the folder
        return folder


def _call_ahead(function: Callable, items: Sequence) -> Iterator[Callable]:
    """Call a function in two threads, some items ahead; yield what gives results."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        calls = (pool.submit(function, item) for item in items)
        coming = deque(islice(calls, READ_AHEAD))
        while coming:
            yield coming.popleft().result
            coming.extend(islice(calls, 1))


@pin_defaults
def load_clap(
    name: str | Path = "clap-mini",
    *,
    device: str | torch.device = "cpu",
    bfloat16: bool = False,
) -> Clap:
    """Load a model in float32; only safetensors are read, and no code is run.

    It is bundled, a folder of `Clap.save` or in Hugging Face's layout, or on the hub.
    With `bfloat16` the audio tower multiplies so: faster where the processor can, and
    clap-mini's embeddings keep a cosine of .9999 with float32's. An unknown name or a
    changed file raises a `ValueError`.
    """
    name, models = str(name), files.data_root() / "models"
    valid = sorted(path.parent.name for path in models.glob("*/config.json"))
    bundled = name in valid
    folder = models / name if bundled else files.as_path(name)
    is_local = (folder / "config.json").is_file()
    is_hub_name = name.count("/") == 1 and name[0] not in "./~" and not folder.is_dir()
    if not is_local and not is_hub_name:
        kinds = f"{valid}, a folder with a config.json, a hub name such as 'laion/...'"
        raise ValueError(f"unknown model {name!r}; valid are {kinds}")
    try:
        clap = _load_folder(folder, bundled) if is_local else _load_transformers(name)
    except (*DAMAGES, OSError) as error:
        problem = f"{name!r} is neither on this machine nor reachable on the hub"
        pin = f" --revision {REVISIONS[name]}" if name in REVISIONS else ""
        remedy = f"with a network, run `hf download {name}{pin}` once (about 1 GB)"
        if is_local:
            problem = f"{name!r} cannot be read as a CLAP of safetensors ({error})"
            remedy = "save it again"
        kind = FileNotFoundError if isinstance(error, OSError) else ValueError
        raise kind(f"{problem}; {remedy}") from error
    _refuse_infinite(clap.state_dict(), where=name)
    clap.name = folder.resolve().name if is_local else name
    clap.audio_tower.low_precision = bfloat16
    return clap.float().to(device)


def _load_folder(folder: Path, bundled: bool) -> Clap:
    """Read what `Clap.save` wrote, or Hugging Face's layout; checksums first."""
    files.refuse_changed(folder, required=bundled)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    towers = folder / config.get("towers", ".")
    if towers != folder:
        files.refuse_changed(towers, required=bundled)
    if "format" not in config:
        return _load_transformers(folder)
    if (kind := config["format"]) != FORMAT:
        raise ValueError(f"{folder} has the format {kind!r}; only {FORMAT!r} is read")
    weights = load_file(folder / "projections.safetensors")
    for part in ("audio_tower", "text_tower"):
        weights |= load_file(towers / f"{part}.safetensors")
    text_config = transformers.ClapTextConfig(**config["text_tower"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(towers)
    text_tower = TextTower(transformers.ClapTextModel(text_config), tokenizer)
    names = ("audio_projection", "text_projection")
    parts = {name: _build_projection(weights, name) for name in names}
    parts |= {"logit_scale": config["logit_scale"], "text_tower": text_tower}
    clap = Clap(build_audio_tower(config["audio_tower"]), **parts)
    state = clap.state_dict().items()  # whole numbers, such as positions, stay
    weights |= {key: value for key, value in state if not value.is_floating_point()}
    clap.load_state_dict(weights)
    return clap


def _load_transformers(source: str | Path) -> Clap:
    """Read a `transformers.ClapModel`, with its own towers and projections."""
    pin = {"revision": REVISIONS.get(source), "trust_remote_code": False}
    model = transformers.ClapModel.from_pretrained(source, use_safetensors=True, **pin)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, **pin)
    extractor = transformers.ClapFeatureExtractor.from_pretrained(source, **pin)
    return Clap(
        HtsatTower(model.audio_model, extractor),
        TextTower(model.text_model, tokenizer),
        audio_projection=model.audio_projection,
        text_projection=model.text_projection,
        logit_scale=float(model.logit_scale_a.detach().exp()),
    )


def _build_projection(weights: dict[str, Tensor], name: str) -> nn.Module:
    """A linear map, or CLAP's own projection, weights still to be loaded."""
    if f"{name}.weight" in weights:
        return nn.Linear(*weights[f"{name}.weight"].shape[::-1])
    n_out, n_in = weights[f"{name}.linear1.weight"].shape
    sizes = {"hidden_size": n_in, "projection_dim": n_out, "num_attention_heads": 1}
    return ClapProjectionLayer(transformers.ClapTextConfig(**sizes))


def _refuse_infinite(weights: dict[str, Tensor], *, where: str | Path) -> None:
    if bad := [key for key, value in weights.items() if not value.isfinite().all()]:
        remedy = "train with a lower learning rate, or use another model"
        problem = f"NaN or infinite weights in {bad[0]}, or beyond 16 bits (65,504)"
        raise ValueError(f"{where} has {problem}; {remedy}")
