"""The audio tower for listening only: the same weights, several times as fast.

`transformers` writes its HTSAT to be trained. Where nobody learns, much of it need
not be done: tokens are put into the order of their windows once and stay there, the
position bias and the masks of shifted windows are laid out once, query, key and value
are one product, attention is fused, and clips pass one by one through the wide early
stages, so that what they leave behind still lies in the processor's cache. Products
are taken in bfloat16 where the processor multiplies it faster; sums stay in float32.

Whether that holds is not assumed but tried: `choose_way` compares with transformers
on a few fixed pictures, and a model whose embeddings would differ is run as
transformers runs it.

Source: Chen et al. 2022 (HTS-AT), Liu et al. 2021 (Swin); weights as in transformers.
Shapes: n clips, F frames, M mels, N tokens, C width, T tokens of a window, H heads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers import ClapModel

AGREEMENT = 0.9999  # least cosine with transformers' own result
AT_ONCE = 4096  # tokens that go through a first stage together, on a processor
MASKED = -100.0  # added where a shifted window would look around the edge
Way = torch.dtype | None  # None: as transformers does it


def choose_way(model: ClapModel, *, n_frames: int) -> Way:
    """Decide how a model may be run: in bfloat16, in float32, or by transformers.

    Args:
        model: In evaluation mode.
        n_frames: Frames of its pictures.

    Returns:
        The fastest that agrees with transformers to a cosine of .9999 on silence,
        noise and harmonics.
    """
    if not _is_usual(model):
        return None
    mels = _examples(n_frames, model.config.audio_config.num_mel_bins)
    mels = mels.to(model.device)
    wanted = plain_features(model, mels)
    fast = [torch.bfloat16] if bfloat16_is_fast(model.device) else []
    for way in [*fast, torch.float32]:
        found = project(model, hear(model, mels, way=way))
        if F.cosine_similarity(found, wanted).min() >= AGREEMENT:
            return way
    return None


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether products of bfloat16 are made in hardware here."""
    if device.type == "cpu":
        return (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def plain_features(model: ClapModel, mels: torch.Tensor) -> torch.Tensor:
    """What transformers makes of pictures (n, 1, F, M): (n, dim), with gradients."""
    longer = torch.zeros(len(mels), 1, dtype=torch.bool, device=mels.device)
    found = model.get_audio_features(input_features=mels, is_longer=longer)
    return found.pooler_output.float()


def project(model: ClapModel, heard: torch.Tensor) -> torch.Tensor:
    """Take what a tower heard to the joint space: (n, C) -> (n, dim) unit rows."""
    return F.normalize(model.audio_projection(heard).float(), dim=-1)


@torch.no_grad()
def hear(
    model: ClapModel, mels: torch.Tensor, *, way: Way = torch.float32
) -> torch.Tensor:
    """Run the audio tower on pictures, without gradients; `project` goes on from there.

    Args:
        model: Its weights are looked up anew at every call; one that is in training
            is left to transformers.
        mels: (n, 1, F, M) log-mels on the model's device.
        way: From `choose_way`.

    Returns:
        (n, C) float32, the mean over the tokens of the last stage.
    """
    if way is None or model.training:
        longer = torch.zeros(len(mels), 1, dtype=torch.bool, device=mels.device)
        found = model.audio_model(input_features=mels, is_longer=longer)
        return found.pooler_output.float()
    encoder = model.audio_model.audio_encoder
    normed = encoder.batch_norm(mels.transpose(1, 3)).transpose(1, 3)
    width = int(encoder.spec_size * encoder.freq_ratio)
    if normed.shape[2] < width:
        normed = _stretch(normed.shape[2], width).to(normed) @ normed
    # What else transformers does with a picture on its way in is cheap: use it. The
    # fused checkpoints see whole windows here, none of which is "longer".
    nobody = torch.zeros(0, dtype=torch.long, device=mels.device)
    tokens = encoder.patch_embed(encoder.reshape_mel2img(normed), nobody)  # (n, N, C)
    stages = _lay_out(model, way)
    tokens = tokens[:, _order(stages[0].grid, stages[0].window, 0).to(mels.device)]
    # Each stage has a quarter of the tokens of the one before, so four times as many
    # clips fill the cache alike; a graphics card takes them all at once.
    at_once = len(mels)
    if mels.device.type == "cpu":
        at_once = max(1, AT_ONCE // tokens.shape[1])
    for stage in stages:
        tokens = torch.cat([stage(part) for part in tokens.split(at_once)])
        at_once *= 4
    return encoder.norm(tokens).mean(dim=1)


@dataclass(frozen=True)
class _Block:
    """Attention within windows, then two layers: what Swin repeats."""

    norms: tuple[torch.nn.LayerNorm, torch.nn.LayerNorm]
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]  # qkv, out, wide, narrow
    bias: torch.Tensor  # (windows or 1, H, T, T)
    activation: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        qkv, out, wide, narrow = self.layers
        n, n_tokens, width = x.shape
        heads, window = self.bias.shape[1:3]
        y = F.linear(self.norms[0](x).to(qkv[0].dtype), *qkv).to(self.bias.dtype)
        # (n * windows, T, 3, H, d) -> three of (n * windows, H, T, d)
        y = y.view(-1, window, 3, heads, width // heads)
        q, k, v = y.permute(2, 0, 3, 1, 4)
        many = n if len(self.bias) > 1 else 1
        mask = self.bias.repeat(many, 1, 1, 1)
        # The scale is in the query's weights already.
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
        y = y.transpose(1, 2).reshape(n, n_tokens, width).to(out[0].dtype)
        x = x + F.linear(y, *out)
        y = self.norms[1](x).to(wide[0].dtype)
        return x.add_(F.linear(self.activation(F.linear(y, *wide)), *narrow))


@dataclass(frozen=True)
class _Stage:
    """Blocks on one grid of tokens, and the step to a grid of half the size."""

    grid: tuple[int, int]
    window: int
    blocks: tuple[_Block, ...]
    moves: tuple[torch.Tensor | None, ...]  # before each block: where tokens go
    merge: torch.Tensor | None  # which four tokens become one
    norm: torch.nn.LayerNorm | None
    reduction: torch.Tensor | None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(n, N, C) -> (n, N / 4, 2 C), or of the same shape in the last stage."""
        for block, move in zip(self.blocks, self.moves, strict=True):
            x = block(x if move is None else x[:, move])
        if self.merge is None:
            return x
        x = self.norm(x[:, self.merge].view(len(x), -1, 4 * x.shape[-1]))
        return F.linear(x.to(self.reduction.dtype), self.reduction).float()


def _lay_out(model: ClapModel, dtype: torch.dtype) -> list[_Stage]:
    """Weights and orders of all stages, as `hear` uses them."""
    encoder, device = model.audio_model.audio_encoder, model.device
    full = model.config.audio_config.window_size
    grids = [tuple(grid) for grid in encoder.input_resolutions]
    windows = [min(full, *grid) for grid in grids]
    stages = []
    for i, (grid, window, layer) in enumerate(
        zip(grids, windows, encoder.layers, strict=True)
    ):
        # A grid of one window has nothing to shift.
        shifts = [
            0 if b % 2 == 0 or min(grid) <= full else full // 2
            for b in range(len(layer.blocks))
        ]
        blocks = [
            _lay_out_block(block, grid, window, shift, dtype)
            for block, shift in zip(layer.blocks, shifts, strict=True)
        ]
        moves = [
            None if a == b else _move(grid, window, a, b).to(device)
            for a, b in zip([0, *shifts], shifts, strict=False)
        ]
        down, merge = layer.downsample, None
        if down is not None:
            merge = _merge(grid, window, shifts[-1], windows[i + 1]).to(device)
        stages.append(
            _Stage(
                grid,
                window,
                tuple(blocks),
                tuple(moves),
                merge,
                None if down is None else down.norm,
                None if down is None else down.reduction.weight.to(dtype),
            )
        )
    return stages


def _lay_out_block(layer, grid, window, shift, dtype) -> _Block:
    own = layer.attention.self
    scale = own.attention_head_size**-0.5
    parts = (own.query, scale), (own.key, 1.0), (own.value, 1.0)
    qkv = (
        torch.cat([part.weight * by for part, by in parts]),
        torch.cat([part.bias * by for part, by in parts]),
    )
    rest = layer.attention.output.dense, layer.intermediate.dense, layer.output.dense
    layers = [qkv, *((part.weight, part.bias) for part in rest)]
    size = window * window
    bias = own.relative_position_bias_table[own.relative_position_index.view(-1)]
    bias = bias.view(size, size, -1).permute(2, 0, 1).unsqueeze(0)  # (1, H, T, T)
    if shift:
        bias = bias + _mask(grid, window, shift).to(bias).unsqueeze(1)
    return _Block(
        (layer.layernorm_before, layer.layernorm_after),
        tuple((weight.to(dtype), offset.to(dtype)) for weight, offset in layers),
        # On a processor, such small products are faster in single precision.
        bias.to(torch.float32 if bias.device.type == "cpu" else dtype).contiguous(),
        layer.intermediate.intermediate_act_fn,
    )


@functools.lru_cache(maxsize=8)
def _stretch(n: int, width: int) -> torch.Tensor:
    """Bicubic interpolation of n frames to more, as a matrix: (width, n).

    Transformers interpolates in both directions, though bands stay as they are.
    """
    each = torch.eye(n)[None, None]  # one frame at a time, which shows its weights
    size = (width, n)
    return F.interpolate(each, size, mode="bicubic", align_corners=True)[0, 0]


@functools.lru_cache(maxsize=64)
def _order(grid: tuple[int, int], window: int, shift: int) -> torch.Tensor:
    """Number, row by row on the grid, of each token when windows follow one another."""
    rows, columns = grid
    number = torch.arange(rows * columns).view(rows, columns)
    return _by_window(number.roll((-shift, -shift), (0, 1)), window).flatten()


def _by_window(plane: torch.Tensor, window: int) -> torch.Tensor:
    rows, columns = plane.shape
    plane = plane.view(rows // window, window, columns // window, window)
    return plane.transpose(1, 2).reshape(-1, window * window)  # (windows, T)


@functools.lru_cache(maxsize=64)
def _places(grid: tuple[int, int], window: int, shift: int) -> torch.Tensor:
    """Where each token of the grid stands in that order."""
    order = _order(grid, window, shift)
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))


def _move(grid: tuple[int, int], window: int, a: int, b: int) -> torch.Tensor:
    return _places(grid, window, a)[_order(grid, window, b)]


def _merge(
    grid: tuple[int, int], window: int, shift: int, next_window: int
) -> torch.Tensor:
    """The four tokens of each new one, in the order of the next stage's windows."""
    places = _places(grid, window, shift).view(grid)
    four = [places[row::2, column::2] for column in (0, 1) for row in (0, 1)]
    half = (grid[0] // 2, grid[1] // 2)
    four = torch.stack([part.flatten() for part in four], dim=1)  # (N / 4, 4)
    return four[_order(half, next_window, 0)].flatten()


@functools.lru_cache(maxsize=64)
def _mask(grid: tuple[int, int], window: int, shift: int) -> torch.Tensor:
    """Keep what a shift brought together from two edges apart: (windows, T, T)."""

    def strip(size: int) -> torch.Tensor:
        place = torch.arange(size)
        return (place >= size - window).long() + (place >= size - shift).long()

    region = 3 * strip(grid[0]).unsqueeze(1) + strip(grid[1]).unsqueeze(0)
    region = _by_window(region, window)
    return MASKED * (region.unsqueeze(1) != region.unsqueeze(2)).float()


def _is_usual(model: ClapModel) -> bool:
    """Whether grids divide into whole windows, and patches are a sequence."""
    config = model.config.audio_config
    window, grids = config.window_size, model.audio_model.audio_encoder
    fits = all(
        side % min(window, *grid) == 0
        for grid in grids.input_resolutions
        for side in grid
    )
    halves = all(side % 2 == 0 for g in grids.input_resolutions[:-1] for side in g)
    return bool(config.flatten_patch_embeds and config.qkv_bias and fits and halves)


def _examples(n_frames: int, n_mels: int) -> torch.Tensor:
    """Pictures to try a way on: silence, noise, harmonics that wander: (3, 1, F, M)."""
    noise = torch.randn(n_frames, n_mels, generator=torch.Generator().manual_seed(0))
    time = torch.linspace(0, 12, n_frames).unsqueeze(1)
    band = torch.arange(n_mels).unsqueeze(0)
    voice = 20 * torch.cos(band / 2 + 3 * time.sin()) - 0.5 * band
    pictures = [torch.full_like(noise, -100.0), 6 * noise - 30, voice + noise - 30]
    return torch.stack(pictures).unsqueeze(1)
