"""Multi-head attention and linear attention in PyTorch; `flax_layer.py` is its twin.

Shape suffixes:
  B = batch, T = tokens, S = tokens that are seen, D = width, N = num_heads, G = num_kv_heads,
  H = head_dim
"""

import torch
from torch import nn

from kernels.attention.contract import SEED_STEP
from kernels.attention.rope import Rope, RopeTables
from kernels.attention.torch_op import attention
from kernels.linear_attention.torch_op import linear_attention
from models.context import Context
from models.layers.attention.cache import KeyCache
from models.layers.attention.config import AttentionConfig
from models.layers.attention.weights import retention_decays
from models.layers.dropout.torch_layer import layer_seeds
from models.layers.linear.torch_layer import Linear
from models.layers.norm.torch_layer import Norm
from models.layers.positions.alibi import geometric_slopes
from models.layers.positions.config import PositionsConfig
from models.layers.positions.rotary import angles, rotary_dim


class Attention(nn.Module):
    """`[batch, seq_len, width]` to the same: each token learns from those that it sees.

    Padding, tokens whose `context.segment_ids` are negative, is seen by nothing; attention keeps
    other segments apart too, linear attention does not. In decoding, which wants it to be causal,
    the tokens of earlier passes are seen as well: of attention the last `cache_len`.
    """

    def __init__(
        self,
        config: AttentionConfig,
        positions: PositionsConfig,
        width: int,
        *,
        cache_len: int,
        name: str,
    ):
        super().__init__()
        self.config, self.rotary, self.alibi = config, positions.rotary, positions.alibi
        self.cache_len, self.name = cache_len, name
        self.head_dim = width // config.num_heads
        kv_width = self.head_dim * config.kv_heads
        self.query = Linear(width, width, bias=config.qkv_bias)
        self.key = Linear(width, kv_width, bias=config.qkv_bias)
        self.value = Linear(width, kv_width, bias=config.qkv_bias)
        self.out = Linear(width, width, bias=config.out_bias)
        qk_norm = config.qk_norm
        self.query_norm = Norm(qk_norm, self.head_dim) if qk_norm.enabled else None
        self.key_norm = Norm(qk_norm, self.head_dim) if qk_norm.enabled else None
        heads = torch.zeros(config.num_heads)
        self.alibi_slopes = nn.Parameter(heads) if positions.alibi.learned else None
        self.decay_logits = nn.Parameter(heads) if config.decay == "learned" else None

    def forward(self, x_BTD: torch.Tensor, context: Context) -> torch.Tensor:
        q_BTNH = self._heads(self.query(x_BTD))
        k_BTGH, v_BTGH = self._heads(self.key(x_BTD)), self._heads(self.value(x_BTD))
        if self.query_norm is not None and self.key_norm is not None:
            q_BTNH, k_BTGH = self.query_norm(q_BTNH), self.key_norm(k_BTGH)
        mix = self._attention if self.config.kind == "attention" else self._linear_attention
        y_BTD: torch.Tensor = self.out(mix(q_BTNH, k_BTGH, v_BTGH, context).reshape(x_BTD.shape))
        return y_BTD

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(*x.shape[:2], x.shape[2] // self.head_dim, self.head_dim)

    def _attention(
        self, q_BTNH: torch.Tensor, k_BTGH: torch.Tensor, v_BTGH: torch.Tensor, context: Context
    ) -> torch.Tensor:
        config, segment_ids = self.config, context.segment_ids
        if context.caches is not None:
            k_BTGH, v_BTGH, segment_ids = self._remember(k_BTGH, v_BTGH, context)
        drops = context.train and config.dropout_rate > 0
        return attention(
            q_BTNH,
            k_BTGH,
            v_BTGH,
            causal=config.causal,
            window=None if config.window is None else (config.window, config.window),
            softcap=config.softcap,
            softmax_scale=config.softmax_scale,
            alibi_slopes=self._slopes(),
            rope=self._rope(max(q_BTNH.shape[1], k_BTGH.shape[1])),
            segment_ids=segment_ids,
            dropout_rate=config.dropout_rate if drops else 0.0,
            dropout_seed=self._seeds(context) if drops else None,
        )

    def _slopes(self) -> torch.Tensor | None:
        if self.alibi_slopes is not None:
            return self.alibi_slopes
        return torch.tensor(geometric_slopes(self.config.num_heads)) if self.alibi.enabled else None

    def _rope(self, positions: int) -> Rope | RopeTables | None:
        if not self.rotary.enabled:
            return None
        if self.rotary.interpolation == 1:
            return Rope(self.rotary.base, rotary_dim=rotary_dim(self.rotary, self.head_dim))
        turns = torch.tensor(angles(self.rotary, self.head_dim, positions))
        return RopeTables(torch.cos(turns), torch.sin(turns))

    def _seeds(self, context: Context) -> torch.Tensor:
        """Returns seeds `[batch]` by which an example's are the same in any place of a batch."""
        seeds = layer_seeds(context, self.name)
        # The kernel adds a number for each row.
        return seeds - SEED_STEP * torch.arange(len(seeds), device=seeds.device)

    def _remember(
        self, k_BTGH: torch.Tensor, v_BTGH: torch.Tensor, context: Context
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Returns keys, values and segments of all tokens so far, and sows them."""
        assert context.caches is not None
        batch, new = k_BTGH.shape[:2]
        ids, device = context.segment_ids, k_BTGH.device
        ids_BT = torch.zeros((batch, new), device=device).int() if ids is None else ids.int()
        empty = k_BTGH.new_zeros(batch, self.cache_len, *k_BTGH.shape[2:])
        nobody = torch.full((batch, self.cache_len), -1, dtype=torch.int32, device=device)
        before = context.caches.get(self.name, KeyCache(empty, empty, nobody))
        cache = KeyCache(
            *(
                torch.cat((old, x), dim=1)[:, -self.cache_len :]
                for old, x in zip(before, (k_BTGH, v_BTGH, ids_BT), strict=True)
            )
        )
        context.sown.caches[self.name] = cache
        return cache.keys, cache.values, (ids_BT, cache.segment_ids)

    def _linear_attention(
        self, q_BTNH: torch.Tensor, k_BTGH: torch.Tensor, v_BTGH: torch.Tensor, context: Context
    ) -> torch.Tensor:
        config = self.config
        if context.segment_ids is not None:
            # What has a feature of 0, exactly.
            nothing = -torch.inf if config.feature_map == "elu" else 0.0
            k_BTGH = k_BTGH.masked_fill((context.segment_ids < 0)[..., None, None], nothing)
        mixed = linear_attention(
            q_BTNH,
            k_BTGH,
            v_BTGH,
            causal=config.causal,
            feature_map=config.feature_map,
            normalize=config.normalize,
            eps=config.eps,
            decay=self._decay(),
            initial_state=None if context.caches is None else context.caches.get(self.name),
            return_state=context.caches is not None,
        )
        if isinstance(mixed, tuple):
            mixed, context.sown.caches[self.name] = mixed
        return mixed

    def _decay(self) -> torch.Tensor | None:
        if self.decay_logits is not None:
            return torch.sigmoid(self.decay_logits)
        if self.config.decay == "fixed":
            return torch.tensor(retention_decays(self.config.num_heads))
        return None
