"""The decoder's fast path on a CPU: a step of a few tokens is one call of a compiled kernel instead of some tens of tensor
operations a layer, each of which takes longer to start than a small model's arithmetic.

Shapes: N tokens of a step, D width, L layers, P positions.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from cairn.models.attention import Attention, build_rule
from cairn.models.cache import PAGE, CacheStep
from cairn.models.config import ModelConfig
from cairn.models.context import Step
from cairn.models.feedforward import FeedForward, GatedFeedForward
from cairn.models.linear import FEW_ROWS, THREADED, Linear
from cairn.models.norms import RMSNorm
from cairn.models.transformer import Block, Transformer

if TYPE_CHECKING:
    from cairn.kernels.decode import Shape, Work

# Exactly these compute what the kernel computes; a subclass, an adapter or a quantized layer need not.
KNOWN = (
    Block, Attention, FeedForward, GatedFeedForward, Linear, RMSNorm, nn.LayerNorm, nn.Embedding, nn.ModuleList,
    nn.Dropout,  # only training drops anything
)  # fmt: skip


class FastDecoder:
    """`hidden` of a model, the same numbers to rounding, fast for the steps of generation.

    Steps of more than FEW_ROWS tokens, steps with a long segment, steps under gradients or with hooks on the model, and
    models that do not fit go to the model itself. A token's numbers do not depend on the other tokens of a step. Weights
    are read where they lie: training goes on in place, and replaced parameters and modules are noticed. Not thread-safe.
    """

    def __init__(self, model: Transformer):
        self.model = model
        self._plan = _Plan(model) if self.fits(model) else None

    @staticmethod
    def fits(model: nn.Module) -> bool:
        """Can the kernel compute this model? A decoder in float32 on the CPU, of plain layers and a covered configuration."""
        if type(model) is not Transformer or not _covers(model.config):
            return False
        modules = [m for _, m in _inner_modules(model)]
        parameters = [p for m in modules for p in m.parameters(recurse=False)]
        # A layer's own `forward` is put in the place of its class's by some tools.
        plain = all(type(m) in KNOWN and "forward" not in m.__dict__ for m in modules)
        numbers = all(p.dtype == torch.float32 and p.device.type == "cpu" and p.is_contiguous() for p in parameters)
        return plain and numbers and _shapes(model) == _shapes(_as_configured(model.config))

    def hidden(self, ids_1N: torch.Tensor, step: Step) -> torch.Tensor:
        """The normalised residual stream (1, N, D) of the new tokens of a step, see `Transformer.hidden`.

        Raises IndexError where a token or position is outside the model or the cache."""
        plan = self._plan
        if plan is not None and plan.changed():
            plan = self._plan = _Plan(self.model) if self.fits(self.model) else None
        if plan is None or not isinstance(step, CacheStep) or not plan.takes(step):
            return self.model.hidden(ids_1N, step)
        return plan.run(ids_1N, step)


def _as_configured(config: ModelConfig) -> Transformer:
    """A model without memory: the shapes that the kernel takes from the configuration."""
    with torch.device("meta"):
        return Transformer(config)


def _shapes(model: Transformer) -> dict[str, torch.Size]:
    """Of the parameters that `hidden` reads. A pruned model has others than its configuration says."""
    return {name: p.shape for name, p in model.named_parameters() if not name.startswith(("unembed", "pooler"))}


def _covers(config: ModelConfig) -> bool:
    scaling = config.rope_scaling
    return (
        config.causal
        and not config.encoder_layers
        and config.latent is None
        and config.experts is None
        and config.norm_place != "post"
        and config.positions in ("rope", "learned", "alibi", "none")
        and not config.rope_interleaved
        and not (scaling is not None and scaling.kind == "dynamic")  # its table depends on the length of the text
        and not config.token_types
    )


def _inner_modules(model: Transformer) -> Iterator[tuple[str, nn.Module]]:
    """All modules that `hidden` passes through, with their paths: the unembedding is not one of them."""
    for path, module in model.named_modules():
        if path and path.split(".")[0] not in ("unembed", "pooler"):
            yield path, module


class _Plan:
    """What a model's steps share: where its weights lie, what its configuration fixes, and arrays to work in."""

    def __init__(self, model: Transformer):
        from cairn.kernels import decode

        self.config = config = model.config
        modules = dict(_inner_modules(model))
        self._held = [(_owner(model, path)._modules, path.split(".")[-1]) for path in modules]
        self._modules = list(modules.values())
        self._hooks = [h for m in (model, *modules.values()) for h in (m._forward_hooks, m._forward_pre_hooks)]
        self._where: list[tuple[dict, str]] = []  # of every parameter: what holds it, and its name there
        slots: list[tuple[int, int]] = []
        for layer, prefix, parts in (
            *((layer, f"blocks.{layer}.", decode.BLOCK_PARTS) for layer in range(config.layers)),
            (config.layers, "", decode.OUTER_PARTS),
        ):
            for part, path in enumerate(parts):
                held = modules[prefix + path]._parameters if prefix + path in modules else {}
                for slot, name in enumerate(("weight", "bias")):
                    if held.get(name) is not None:
                        self._where.append((held, name))
                        slots.append((layer, 2 * part + slot))
        self._pointers = self._find()
        self._slots_LW = np.zeros((config.layers + 1, decode.SLOTS), dtype=np.int64)
        self._slots_LW[tuple(np.array(slots).T)] = self._pointers
        windows = [config.window_of(layer) for layer in range(config.layers)]
        self._window_L = np.array(windows, dtype=np.int64)
        self._ropes = [rope for rope in (model._rope, model._local_rope) if rope is not None]
        self._table_L = np.array([len(self._ropes) > 1 and window > 0 for window in windows], dtype=np.int64)
        self._rules = [build_rule(config, layer) for layer in range(config.layers)]
        self._reach(min(512, config.max_positions))
        self._shape = _shape(config)
        self._work = _work(config)
        self._run: Any = decode.run_phases
        self._tokens = decode.Tokens
        self._phases = 2 + config.layers * decode.PHASES
        self._stretches = _stretches(config.layers, decode.SPLITS)
        self.large = config.dim * config.ffn_dim >= THREADED

    def changed(self) -> bool:
        """Has a parameter moved, or a module or a `forward` been put in another's place?"""
        return (
            self._find() != self._pointers
            or [held.get(name) for held, name in self._held] != self._modules
            or any("forward" in m.__dict__ for m in self._modules)
        )

    def takes(self, step: CacheStep) -> bool:
        return not (
            step.long
            or len(step.position_N) > FEW_ROWS
            or any(self._hooks)
            or torch.is_grad_enabled()
            or step.cache.device.type != "cpu"
            or step.cache.k_SGK[0].dtype != torch.float32
        )

    def run(self, ids_1N: torch.Tensor, step: CacheStep) -> torch.Tensor:
        if ids_1N.shape != step.position_BT.shape:
            raise ValueError(f"ids have the shape {tuple(ids_1N.shape)}, the step {tuple(step.position_BT.shape)}")
        if step.longest > self._positions:
            self._reach(2 * step.longest)
        cache = step.cache
        self._slots_LW[:-1, -2] = [k.data_ptr() for k in cache.k_SGK]
        self._slots_LW[:-1, -1] = [v.data_ptr() for v in cache.v_SGK]
        hidden_1ND = torch.empty(1, ids_1N.shape[1], self.config.dim)
        places = cache.pages * PAGE
        tokens = self._tokens(
            ids_1N[0].numpy(), step.position_N, step.row_N, step.place_N.numpy(), step.table_RP, places, *self._tables
        )
        fixed = self._shape, self._slots_LW, self._window_L, self._table_L, self._work, tokens, hidden_1ND[0].numpy()
        threads = torch.get_num_threads() if self.large else 1
        if threads == 1:
            known = self._run(0, self._phases, *fixed, 0, 1)
        else:
            known = self._run_threaded(fixed, threads)
        if not known:
            raise IndexError(
                f"token {ids_1N.tolist()} or position {step.position_N.tolist()} outside the model or cache"
            )
        return hidden_1ND

    def _run_threaded(self, fixed: tuple, threads: int) -> bool:
        from cairn.kernels.threads import in_parts

        for begin, end, splits in self._stretches:
            if splits:
                in_parts(partial(self._run_part, begin, end, fixed, threads), threads, threads)
            elif not self._run(begin, end, *fixed, 0, 1):
                return False
        return True

    def _run_part(self, begin: int, end: int, fixed: tuple, parts: int, part: int, _: int) -> None:
        self._run(begin, end, *fixed, part, parts)

    def _find(self) -> list[int]:
        """Where the parameters lie; 0 for one that was taken away."""
        found = (held.get(name) for held, name in self._where)
        return [0 if parameter is None else parameter.data_ptr() for parameter in found]

    def _reach(self, positions: int) -> None:
        """Tables by position, for this many: cos and sin, and ALiBi's bias."""
        self._positions = positions
        cos_TPK = sin_TPK = np.zeros((1, 0, 0), dtype=np.float32)
        bias_HP = np.zeros((0, 0), dtype=np.float32)
        with torch.inference_mode():
            if self._ropes:
                tables = [rope.tables(torch.arange(positions)) for rope in self._ropes]
                half = tables[0][0].shape[-1] // 2  # the second half of a head turns by the same angles
                cos_TPK, sin_TPK = (
                    np.ascontiguousarray(torch.stack(parts)[..., :half].numpy()) for parts in zip(*tables)
                )
            alibi = self._rules[0].alibi
            if alibi is not None:
                bias_HP = np.ascontiguousarray(alibi.of_keys(positions).numpy())
        self._tables = cos_TPK, sin_TPK, bias_HP


def _owner(model: nn.Module, path: str) -> nn.Module:
    return model.get_submodule(path.rpartition(".")[0])


def _shape(config: ModelConfig) -> "Shape":
    from cairn.kernels.decode import Shape
    from cairn.kernels.rows import ACTIVATIONS

    rule = build_rule(config, 0)
    return Shape(
        layers=config.layers,
        head_dim=config.head_dim,
        vocabulary=config.vocab_size,
        positions=config.max_positions + config.position_offset if config.positions == "learned" else 0,
        position_offset=config.position_offset,
        embed_scale=float(config.embed_scale),
        layer_norm=config.norm == "layernorm",
        norm_eps=float(config.norm_eps),
        norm_offset=float(config.norm_offset),
        qk_norm_head=config.qk_norm == "head",
        parallel=config.parallel,
        shared_norm=config.shared_norm,
        page=PAGE,
        scale=float(rule.scale),
        sinks=rule.sinks,
        cap=float(rule.cap),
        activation=ACTIVATIONS.index(config.activation),
    )


def _work(config: ModelConfig) -> "Work":
    from cairn.kernels.decode import Work

    def rows(width: int) -> np.ndarray:
        return np.zeros((FEW_ROWS, width), dtype=np.float32)

    q_NX, z_NX = rows(config.heads * config.head_dim), rows(config.heads * config.head_dim)
    return Work(
        x_ND=rows(config.dim),
        normed_ND=rows(config.dim),
        normed_2_ND=rows(config.dim),
        y_ND=rows(config.dim),
        y_2_ND=rows(config.dim),
        q_NX=q_NX,
        k_NX=rows(config.kv_heads * config.head_dim),
        v_NX=rows(config.kv_heads * config.head_dim),
        z_NX=z_NX,
        q_NHK=q_NX.reshape(FEW_ROWS, config.heads, config.head_dim),
        z_NHK=z_NX.reshape(FEW_ROWS, config.heads, config.head_dim),
        inner_NF=rows(config.ffn_dim),
        gate_NF=rows(config.ffn_dim if config.gated else 0),
    )


def _stretches(layers: int, splits: tuple[bool, ...]) -> list[tuple[int, int, bool]]:
    """The phases of a pass as (begin, end, does it split): neighbours that do not split are run together."""
    stretches: list[tuple[int, int, bool]] = []
    for number, split in enumerate((False, *splits * layers, False)):
        if stretches and not split and not stretches[-1][2]:
            stretches[-1] = stretches[-1][0], number + 1, False
        else:
            stretches.append((number, number + 1, split))
    return stretches
