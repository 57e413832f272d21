"""The text tower, run for the one token that is looked at.

A sentence's embedding is made from its first token. The last layer of `transformers`
computes all the others as well, which nobody reads; in a small tower of three layers
that is a quarter of the work, forth and back.

Source: Liu et al. 2019 (RoBERTa); weights and layers are those of transformers.
Shapes: n sentences, L tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ClapModel


def text_features(model: ClapModel, vectors: Tensor, mask: Tensor) -> Tensor:
    """Run token vectors through the text tower, with gradients to the vectors.

    Args:
        model: In evaluation mode its last layer is run for the first token alone.
        vectors: (n, L, D), start and end tokens included.
        mask: (n, L), 1 where a token is.

    Returns:
        (n, dim), not normalised, as transformers' `get_text_features` would give.
    """
    tower = model.text_model
    if tower.training or tower.config._attn_implementation not in ("eager", "sdpa"):
        hidden = tower(inputs_embeds=vectors, attention_mask=mask)
        return model.text_projection(hidden.pooler_output)
    hidden = tower.embeddings(inputs_embeds=vectors)
    bias = torch.zeros(mask.shape, dtype=hidden.dtype, device=hidden.device)
    padding = torch.finfo(hidden.dtype).min / 2
    bias = bias.masked_fill(mask == 0, padding)[:, None, None]  # (n, 1, 1, L)
    *earlier, last = tower.encoder.layer
    for layer in earlier:
        hidden = layer(hidden, bias)
    return model.text_projection(tower.pooler(_first_token(last, hidden, bias)))


def _first_token(layer: nn.Module, hidden: Tensor, bias: Tensor) -> Tensor:
    """What a layer makes of the first token: (n, L, D) -> (n, 1, D)."""
    inner = layer.attention.self
    first = hidden[:, :1]

    def heads(values: Tensor) -> Tensor:
        return values.unflatten(-1, (-1, inner.attention_head_size)).transpose(1, 2)

    query, key = heads(inner.query(first)), heads(inner.key(hidden))
    value = heads(inner.value(hidden))
    scores = query @ key.transpose(-1, -2) * inner.scaling + bias  # (n, heads, 1, L)
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    seen = (weights @ value).transpose(1, 2).flatten(2)
    return layer.feed_forward_chunk(layer.attention.output(seen, first))
