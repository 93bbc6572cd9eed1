"""Token by token: passes that give what one pass over all tokens gives, and cost what is new.

    context = start(config)
    logits = network(prompt, context)             # [batch, seq_len, vocab_size]
    while ...:
        context = after(context)
        logits = network(next_tokens, context)    # [batch, 1, vocab_size]

Prompts of different lengths are padded on the left. Caches keep their size, so that JAX compiles
one program for the prompt and one for all steps; under `jax.jit`, pass `context.sown.caches` out
and in.
"""

from models.context import Context
from models.mlp.config import MlpConfig


def start(config: MlpConfig) -> Context:
    """Returns the context of the first pass, over at least one token.

    All passes together may have at most `config.input.tokens.seq_len` tokens.

    Raises:
        ValueError: The network cannot be asked token by token.
    """
    if config.head.kind != "next_token":
        raise ValueError(f"decoding needs head.kind next_token, got {config.head.kind}")
    experts = config.mixture_of_experts
    if experts is not None and experts.capacity_factor is not None:
        raise ValueError(
            "decoding needs experts with room for all tokens, mixture_of_experts.capacity_factor "
            f"null, got {experts.capacity_factor}: who is dropped depends on all of an example"
        )
    return Context(caches={})


def after(context: Context) -> Context:
    """Returns the context of the pass after the one that was given `context`."""
    return Context(dtype=context.dtype, caches=context.sown.caches)
