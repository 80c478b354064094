"""Every activation of a forward pass, by name.

Shapes: B batch, T tokens, D width, H heads, G key/value heads, K size of a head, V vocabulary.
"""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import nn

from cairn.core.errors import UserError
from cairn.models import Transformer
from cairn.models.attention import Attention


@torch.inference_mode()
def trace(model: Transformer, ids_BT: torch.Tensor, only: str | tuple[str, ...] = "") -> dict[str, torch.Tensor]:
    """Run `model(ids_BT)` and return its activations under the names of TransformerLens.

    Per block L: blocks.L.hook_resid_pre, hook_resid_mid, hook_resid_post, hook_attn_out, hook_mlp_out (B, T, D);
    blocks.L.attn.hook_q, hook_z (B, T, H, K), hook_k, hook_v (B, T, G, K), the queries and keys before rotation;
    blocks.L.attn.hook_pattern (B, H, T, T). Then ln_final.hook_normalized (B, T, D), which is what the unembedding
    reads, and `logits` (B, T, V). `only` keeps the names that end with it (or one of them). A name whose place a family
    does not have is left out: a parallel block has no stream between its two layers. Raises UserError for latent attention.

    Taken from the pass itself by hooks, but for the pattern: the fused attention of the pass never forms it, so
    `Attention.pattern` writes it out from the same input.
    """
    found: dict[str, torch.Tensor] = {}
    with ExitStack() as stack:

        def watch(module: nn.Module, name: str, what: Callable[[tuple, torch.Tensor], torch.Tensor]) -> None:
            """Keep what(arguments, output) of every call of `module` as `name`."""
            if name.endswith(only):
                hook = module.register_forward_hook(lambda _, args, output: found.update({name: what(args, output)}))
                stack.callback(hook.remove)

        for layer, block in enumerate(model.blocks):
            attention = block.get_submodule("attention")
            if not isinstance(attention, Attention):
                raise UserError(f"the attention of a {model.config.family} model has no heads of its own to look at")
            at = f"blocks.{layer}."
            watch(block, at + "hook_resid_pre", _first_input)
            watch(block, at + "hook_resid_post", _output)
            if model.config.norm_place in ("pre", "sandwich") and not model.config.parallel:
                watch(block.get_submodule("norm_feed_forward"), at + "hook_resid_mid", _first_input)
            watch(block.get_submodule("feed_forward"), at + "hook_mlp_out", _output)
            watch(attention, at + "hook_attn_out", _output)
            watch(attention, at + "attn.hook_pattern", lambda args, _, layer=attention: layer.pattern(*args[:2]))
            watch(attention.out, at + "attn.hook_z", _heads(attention, _first_input))
            for name, part in (("q", attention.q), ("k", attention.k), ("v", attention.v)):
                watch(part, at + f"attn.hook_{name}", _heads(attention, _output))
        if model.config.final_norm:
            watch(model.norm, "ln_final.hook_normalized", _output)
        watch(model, "logits", _output)
        model(ids_BT)
    return found


def _first_input(args: tuple, output: torch.Tensor) -> torch.Tensor:
    return args[0]


def _output(args: tuple, output: torch.Tensor) -> torch.Tensor:
    return output


def _heads(attention: Attention, what: Callable[[tuple, torch.Tensor], torch.Tensor]) -> Callable:
    """The same activation with its last dimension cut into heads."""
    return lambda args, output: what(args, output).unflatten(-1, (-1, attention.head_dim))
