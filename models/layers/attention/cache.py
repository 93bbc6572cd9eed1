"""What attention has to know of the tokens so far, in decoding."""

from typing import Any, NamedTuple


class KeyCache(NamedTuple):
    """The latest tokens' keys and values, the last token at the end; arrays of one framework.

    Its size does not change from step to step, so that one program serves them all.

    Attributes:
        keys: `[batch, cache_len, num_kv_heads, head_dim]`, not yet turned by their positions.
        values: As keys.
        segment_ids: `[batch, cache_len]` int32; negative where there is no token.
    """

    keys: Any
    values: Any
    segment_ids: Any
