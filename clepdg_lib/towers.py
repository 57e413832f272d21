"""Encoders: what turns waves or token vectors into one feature vector.

Sources: Radford et al. 2023 (Whisper); Chen et al. 2022, Wu et al. 2023 (HTSAT).
Shapes: n clips or sentences, F frames, T positions, L tokens, D width.
"""

import copy
import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torchaudio.functional import melscale_fbanks
from transformers.models.whisper.modeling_whisper import WhisperEncoder

MAX_WINDOWS = 20  # of one clip


class AudioTower(nn.Module):
    """A frozen encoder of sound: waves in, one feature vector a clip out."""

    sample_rate: int  # that waves must have, in hertz
    width: int  # D
    window_seconds: float  # the longest wave that is encoded in one piece
    config: dict[str, Any]  # from it, `build_audio_tower` makes the architecture
    encode: Callable[[Sequence[Tensor]], Tensor]  # n waves (samples,) -> (n, D)
    low_precision = False  # multiply in bfloat16: where processors can, twice as fast

    @torch.no_grad()
    def features(self, waves: Sequence[Tensor], *, batch_size: int = 16) -> Tensor:
        """Encode waves, long ones as the mean of windows: n -> (n, D) float32, CPU."""
        limit = round(self.window_seconds * self.sample_rate)
        pieces = [cut_windows(wave, limit) for wave in waves]
        windows = [window for piece in pieces for window in piece]
        order = torch.tensor([len(window) for window in windows]).argsort(stable=True)
        rows = torch.empty(len(windows), self.width)
        for part in order.split(batch_size):  # windows of like length
            rows[part] = self.encode([windows[i] for i in part]).float().cpu()
        of_clips = rows.split([len(piece) for piece in pieces])
        return torch.stack([part.mean(dim=0) for part in of_clips])

    def fingerprint(self) -> str:
        """Hash of the settings and the weights."""
        digest = hashlib.sha256(repr(sorted(self.config.items())).encode())
        digest.update(b"bfloat16 behind convolutions" * self.low_precision)
        for _, tensor in sorted(self.state_dict().items()):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def cut_windows(wave: Tensor, n_samples: int) -> list[Tensor]:
    """Cut a wave into at most 20 even windows; a short one stays whole."""
    surplus = wave.numel() - n_samples
    if surplus <= 0:
        return [wave]
    n_windows = min(MAX_WINDOWS, -(-wave.numel() // n_samples))
    starts = [round(i * surplus / (n_windows - 1)) for i in range(n_windows)]
    return [wave[start : start + n_samples] for start in starts]


class WhisperTower(AudioTower):
    """The beginning of Whisper's encoder, averaged over a clip's true length.

    A clip has one position every 20 ms; a batch is masked, so neighbours do not matter.
    """

    sample_rate = 16_000
    n_fft, hop_length = 400, 160

    def __init__(
        self,
        *,
        n_blocks: int = 3,
        n_positions: int = 500,
        d_model: int = 512,
        n_heads: int = 8,
        n_mels: int = 80,
    ) -> None:
        super().__init__()
        self.width = d_model
        self.window_seconds = n_positions * 2 * self.hop_length / self.sample_rate
        self.config = {"kind": "whisper", "n_blocks": n_blocks, "d_model": d_model}
        self.config |= {"n_positions": n_positions, "n_mels": n_mels}
        self.config["n_heads"] = n_heads
        sizes = {"encoder_layers": n_blocks, "encoder_attention_heads": n_heads}
        sizes |= {"d_model": d_model, "encoder_ffn_dim": 4 * d_model}
        sizes |= {"num_mel_bins": n_mels, "max_source_positions": n_positions}
        config = transformers.WhisperConfig(attn_implementation="sdpa", **sizes)
        self.encoder = WhisperEncoder(config)
        self.encoder.layer_norm = nn.Identity()  # Whisper's last, behind all blocks
        mel = melscale_fbanks(201, 0.0, 8_000.0, n_mels, 16_000, "slaney", "slaney")
        self.register_buffer("mel", mel, persistent=False)  # (n_bins, n_mels)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)
        self.eval().requires_grad_(False)

    @cached_property
    def low_encoder(self) -> WhisperEncoder:
        """A copy that multiplies in bfloat16; it is none of the weights to be saved."""
        encoder = copy.deepcopy(self.encoder)
        for part in encoder.modules():
            if isinstance(part, nn.Linear):  # convolutions in 16 bits cost precision
                part.bfloat16()
            elif isinstance(part, nn.LayerNorm):  # the sum along blocks stays float32
                part.register_forward_hook(lambda *call: call[2].bfloat16())
        return encoder

    def spectrogram(self, wave: Tensor) -> Tensor:
        """Compute Whisper's log-mel spectrogram: (samples,) -> (n_mels, F)."""
        return self.spectrograms([wave])[0][0]

    def spectrograms(self, waves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Spectrograms of a batch (n, n_mels, F), 0 beyond each; and where it is."""
        half, device = self.n_fft // 2, self.mel.device
        waves = [F.pad(w.to(device), (0, max(0, self.n_fft - len(w)))) for w in waves]
        lengths = torch.tensor([w.numel() // self.hop_length for w in waves])
        mirrored = [F.pad(w[None], (half, half), mode="reflect")[0] for w in waves]
        padded = pad_sequence(mirrored, batch_first=True)
        how = {"window": self.window, "center": False, "return_complex": True}
        spectrum = torch.stft(padded, self.n_fft, self.hop_length, **how)[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()  # (n, n_bins, F)
        log = (self.mel.T @ power).clamp_min(1e-10).log10()
        within = torch.arange(log.shape[2], device=device) < lengths[:, None].to(device)
        log = log.where(within[:, None], -10)
        log = (log.maximum(log.amax(dim=(1, 2), keepdim=True) - 8) + 4) / 4
        return log * within[:, None], within

    def encode(self, waves: Sequence[Tensor]) -> Tensor:
        mels, within = self.spectrograms(waves)
        encoder = self.low_encoder if self.low_precision else self.encoder
        hidden = F.gelu(encoder.conv1(mels)) * within[:, None]
        hidden = F.gelu(encoder.conv2(hidden)).mT.contiguous()  # (n, T, D)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        mask = within[:, ::2]  # (n, T): the second convolution has stride 2
        attend = None if bool(mask.all()) else mask[:, None, None, :]
        for block in encoder.layers:
            hidden = block(hidden, attend)
        total = (hidden * mask[..., None]).sum(dim=1)
        return total / mask.sum(dim=1, keepdim=True)


class HtsatTower(AudioTower):
    """LAION's audio tower; its extractor repeats or pads short clips, as it says."""

    def __init__(self, model: transformers.ClapAudioModel, extractor: Any) -> None:
        super().__init__()
        self.model, self.extractor = model, extractor
        self.sample_rate = int(extractor.sampling_rate)
        self.window_seconds = float(extractor.max_length_s)
        self.width = int(model.config.hidden_size)
        self.config = {"kind": "htsat", "extractor": _settings(extractor.to_dict())}
        self.config["model"] = _settings(model.config.to_diff_dict())
        self.eval().requires_grad_(False)

    def spectrograms(self, waves: Sequence[Tensor]) -> Tensor:
        arrays, rate = [wave.cpu().numpy() for wave in waves], self.sample_rate
        inputs = self.extractor(arrays, sampling_rate=rate, return_tensors="pt")
        return inputs["input_features"].to(self.model.device)

    def encode(self, waves: Sequence[Tensor]) -> Tensor:
        mels = self.spectrograms(waves)
        # Fused checkpoints' extractor calls a clip longer at random; none is.
        longer = torch.zeros(len(waves), 1, dtype=torch.bool, device=mels.device)
        with torch.autocast(mels.device.type, torch.bfloat16, self.low_precision):
            return self.model(mels, is_longer=longer).pooler_output


def build_audio_tower(config: dict[str, Any]) -> AudioTower:
    """Make the tower that `AudioTower.config` describes, weights still to be loaded."""
    if config["kind"] == "whisper":
        return WhisperTower(**{k: v for k, v in config.items() if k != "kind"})
    model = transformers.ClapAudioModel(transformers.ClapAudioConfig(**config["model"]))
    return HtsatTower(model, transformers.ClapFeatureExtractor(**config["extractor"]))


class TextTower(nn.Module):
    """A frozen text encoder with its tokenizer; `config` is transformers' own."""

    def __init__(self, model: transformers.ClapTextModel, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.config = _settings(model.config.to_diff_dict())
        self.width = int(model.config.hidden_size)  # D, of tokens and of features
        positions = model.config.max_position_embeddings
        self.max_tokens = positions - model.config.pad_token_id - 1  # with both ends
        self.eval().requires_grad_(False)

    @property
    def table(self) -> Tensor:
        """The token table, (vocabulary, D)."""
        return self.model.get_input_embeddings().weight

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, (n, L) each; a text beyond `max_tokens` is cut: warns."""
        texts, limit = list(texts), self.max_tokens
        options = {"padding": True, "truncation": True, "max_length": limit}
        batch = self.tokenizer(texts, return_tensors="pt", **options)
        if cut := [texts[i] for i, x in enumerate(batch.encodings) if x.overflowing]:
            counts = f"{len(cut)} of {len(texts)} prompts are cut to {limit} tokens"
            names = ", ".join(f"{text[:60]!r}..." for text in cut[:3])
            warnings.warn(f"{counts}, the most this tower takes: {names}", stacklevel=4)
        device = self.table.device
        return batch["input_ids"].to(device), batch["attention_mask"].to(device)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Encode token vectors (n, L, D) with mask (n, L) -> (n, D)."""
        return self.model(inputs_embeds=vectors, attention_mask=mask).pooler_output


def _settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back, without the version that wrote them."""
    settings.pop("transformers_version", None)
    return json.loads(json.dumps(settings, sort_keys=True, default=str))
