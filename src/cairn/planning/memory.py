"""Memory of a training step, device by device: what stays, and the moments at which most is held.

What stays from step to step: weights, the optimizer's state, an average. What comes and goes: gradients, activations, and
what single operations take for a moment. Memory is fullest at one of four moments, and the plan counts all four:

    loss       activations of all blocks are kept, and the loss makes the gradients of hidden states and unembedding
    backward   a block, the first or the last to go back, computes its gradients; those before it hold activations still
    embedding  the blocks hold gradients in place of activations, the embedding makes its own
    update     all gradients are there, and the optimizer takes what it needs

Weights and gradients are float32; in mixed precision 16-bit copies of the matrices come besides (torch.autocast).
"""

from dataclasses import dataclass
from functools import lru_cache

from cairn.planning.activations import FINAL_NORMS, Kept, Pass, block_kept, outside_kept
from cairn.planning.layout import Layout
from cairn.planning.optimizers import state_bytes, step_bytes
from cairn.planning.parameters import Parameters
from cairn.planning.tape import FULL, HALF

# Bytes of a chunk of logits in float32, and its fewest rows (training/losses.py).
LOGITS = {"cpu": 8 << 20}
LOGITS_ELSEWHERE = 256 << 20
LOGITS_ROWS = 256
# What torch and its libraries take before any tensor: Python and torch on a CPU, the CUDA context with cuBLAS and NCCL.
RUNTIME = {"cuda": 1.2 * 2**30, "rocm": 1.5 * 2**30, "mps": 0.5 * 2**30, "cpu": 0.35 * 2**30}
# Holes between tensors in glibc's heap, as a share of what tensors hold: a tensor aligned to 64 bytes does not fit the hole
# that one of its size has left. Measured on the trainer: 0.17 to 0.55 (benchmarks/plan.py); GPUs reserve pages of their own.
FRAGMENTS = {"cpu": 0.35}


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest device. moments: what tensors hold at each moment, the runtime left out."""

    weights: float
    casts: float  # 16-bit copies of matrices while a micro-batch is computed
    gradients: float
    optimizer: float
    average: float
    activations: dict[str, float]  # kept from the forward pass to the backward pass, by layer
    loss: float  # logits and the gradients that the loss makes
    update: float  # what the optimizer's step takes for a moment
    gathered: float  # weights of blocks that lie together for a moment (zero 3)
    runtime: float
    fragments: float  # holes of the heap, on a CPU
    moments: dict[str, float]

    @property
    def tensors(self) -> float:
        """Most bytes that tensors hold: on a GPU, torch.cuda.max_memory_allocated."""
        return max(self.moments.values())

    @property
    def peak(self) -> float:
        """What the process takes of the device."""
        return self.tensors + self.fragments + self.runtime

    @property
    def fullest(self) -> str:
        return max(self.moments, key=lambda name: self.moments[name])

    @property
    def checkpoint_copy(self) -> float:
        """Bytes of the host's memory that checkpoints are copied to before a thread writes them."""
        return self.weights + self.optimizer + self.average


@dataclass(frozen=True)
class Stage:
    """What one process holds of the model before sharding, in numbers where nothing else is said.

    share: of the blocks. block: the largest one. outside: what is no block. matrix: the embedding; head: the unembedding.
    state: bytes of the optimizer's state.
    """

    share: float
    block: float
    blocks: float
    outside: float
    matrix: float
    head: float
    state: float

    @property
    def all(self) -> float:
        return self.blocks + self.outside


@lru_cache(maxsize=4096)
def stage_of(found: Parameters, tensor: int, pipeline: int, optimizer: str, first: bool, last: bool) -> Stage:
    """The first stage of a pipeline has the embeddings, the last one norm and unembedding (a tied matrix is on both), each
    as many blocks as the others. `tensor` divides the matrices of blocks; embeddings and norms are whole everywhere."""
    config = found.config
    share = -(-config.layers // pipeline) / config.layers
    blocks, outside, state = 0.0, 0.0, 0.0
    block = [0.0] * len(found.kinds)
    tied = config.tie_embeddings and config.head != "none"
    for w in found.weights:
        inside = w.block >= 0
        here = inside or (first if w.part == "embedding" else last) or (last and tied and w.name == "embed.weight")
        if not here:
            continue
        numbers = w.size * w.copies * (share if inside else 1) / (tensor if inside and len(w.shape) == 2 else 1)
        state += state_bytes(w, optimizer) / w.size * numbers
        if inside:
            blocks += numbers
            block[w.block] += numbers / share / found.kinds[w.block].count
        else:
            outside += numbers
    size = float(config.vocab_size * config.dim)
    head = size if last and config.head != "none" else 0.0
    return Stage(share, max(block), blocks, outside, size if first else 0.0, head, state)


def training_memory(
    found: Parameters,
    layout: Layout,
    *,
    micro_rows: int,
    context: int,
    micro_batches: int,
    precision: str,
    optimizer: str,
    recompute: str,
    average: bool,
    kind: str,
) -> Memory:
    """Of the fullest device. micro_batches: of a step, on each device. kind: cpu, cuda, rocm or mps."""
    run = Pass(micro_rows, context, precision != "fp32", kind, layout.tensor)
    ends = [(True, True)] if layout.pipeline == 1 else [(True, False), (False, True)]
    stages = [
        _stage_memory(found, layout, run, micro_batches, optimizer, recompute, average, first, last)
        for first, last in ends
    ]
    return max(stages, key=lambda memory: memory.peak)


def _stage_memory(
    found: Parameters,
    layout: Layout,
    run: Pass,
    micro_batches: int,
    optimizer: str,
    recompute: str,
    average: bool,
    first: bool,
    last: bool,
) -> Memory:
    config = found.config
    stage = stage_of(found, layout.tensor, layout.pipeline, optimizer, first, last)
    accumulate = micro_batches > 1
    shard = layout.shard

    # --- what stays from step to step, and what of weights and gradients is whole within one (training/parallel)
    weights, gradients, state = FULL * stage.all / shard, FULL * stage.all / shard, stage.state / shard
    averaged = weights if average else 0.0
    # By FSDP2, whose parts may be one: what `data` means where the model is divided in other ways too.
    divided = shard > 1 or (layout.data > 1 and layout.tensor * layout.pipeline > 1)
    gathered, whole_gradients = 0.0, gradients
    if divided:
        # A block computes while the next one's weights come; what is no block stays together.
        gathered = FULL * (stage.outside + min(2 * stage.block, stage.blocks) if layout.zero == 3 else stage.all)
        whole_gradients = FULL * (stage.all if layout.zero == 1 else stage.blocks / shard + stage.outside)
    buckets = layout.data > 1 and not divided  # DDP keeps its gradients from step to step
    before = (whole_gradients if layout.zero == 1 else gradients) if accumulate or buckets else 0.0
    rest = weights + state + averaged

    # --- activations; the first stage has as many micro-batches under way as there are stages, the last one has one
    under_way = min(micro_batches, layout.pipeline) if first else 1
    kinds = [(block_kept(config, kind, run), kind.count * stage.share) for kind in found.kinds]
    outside = {name: size for name, size in outside_kept(config, run).items() if last or name != FINAL_NORMS}
    activations = {name: under_way * size for name, size in outside.items()}
    for kept, count in kinds:
        for name, size in kept.layers(recompute):
            activations[name] = activations.get(name, 0.0) + under_way * count * size
    stays = sum(activations.values())
    # Blocks that are computed again let go of their copies when the forward pass ends.
    casts_stay = under_way * sum(kept.casts * count for kept, count in kinds) if recompute == "none" else 0.0
    casts = casts_stay or sum(kept.casts * count for kept, count in kinds)

    # --- the moments
    hidden = FULL * run.tokens * config.dim
    head = FULL * stage.head  # the gradient that the loss makes of the unembedding
    loss = hidden + head + loss_scratch(found, run) if last else 0.0
    later = stays - outside.get(FINAL_NORMS, 0.0)  # when blocks go back, what came after them has gone back
    tied = stage.head > 0 and stage.matrix > 0 and config.tie_embeddings
    # A tied matrix gets two gradients and their sum; one that stands alone has its own added to what is there.
    made = FULL * stage.matrix * (int(before > 0) + 2 * int(tied))
    waits = head if tied or not before else 0.0
    unsharded = FULL * stage.block if divided and layout.zero > 1 else 0.0
    backward = _backward(kinds, recompute, before > 0, shard if layout.zero >= 2 else 1)
    others = stays * (under_way - 1) / under_way  # of micro-batches that go back later
    update = step_bytes(found, optimizer, shard * layout.tensor)
    whole = rest + gathered
    moments = {
        "loss": whole + before + stays + casts + hidden + loss,
        "backward": whole + before + later + casts_stay + waits + unsharded + backward,
        "embedding": whole + whole_gradients + made + hidden + others,
        "update": rest + gradients + update,
    }
    return Memory(
        weights=weights,
        gathered=gathered,
        casts=casts,
        gradients=max(whole_gradients, before),
        optimizer=state,
        average=averaged,
        activations=activations,
        loss=loss,
        update=update,
        runtime=RUNTIME[run.kind],
        fragments=FRAGMENTS.get(run.kind, 0.0) * max(moments.values()),
        moments=moments,
    )


def _backward(kinds: list[tuple[Kept, float]], recompute: str, accumulate: bool, shard: int) -> float:
    """How much more the backward pass of the blocks holds, at its fullest, than all that was kept to begin with.

    Each block gives back what it kept and leaves its weights' gradients, so that the first or the last block of a kind is
    where most is held.
    """
    most, held = 0.0, 0.0
    for kept, count in reversed(kinds):
        stays = kept.stays(recompute) + (kept.casts if recompute == "none" else 0.0)
        leaves = 0.0 if accumulate else FULL * kept.weights / shard
        peak = (kept.peak_again if accumulate else kept.peak) + kept.casts
        last = held + max(0.0, count - 1) * (leaves - stays)
        most = max(most, held - stays + peak, last - stays + peak)
        held += count * (leaves - stays)
    return most


def loss_scratch(found: Parameters, run: Pass) -> float:
    """What `linear_cross_entropy` holds besides the gradients that it makes: logits of a chunk, in the forms they take."""
    config = found.config
    if config.head == "none":
        return 0.0
    matrix = config.vocab_size * config.dim
    chunk = min(run.tokens, max(LOGITS_ROWS, LOGITS.get(run.kind, LOGITS_ELSEWHERE) // (4 * config.vocab_size)))
    logits = chunk * config.vocab_size
    several = int(run.tokens > chunk)  # what the chunk before has left is let go of once the next is there
    if run.mixed:
        # The matrix in 16 bits; logits in 16 bits, in 32, and log-probabilities, or the product of a matrix's gradient. On a
        # CPU a kernel turns logits of 32 bits into their gradient in place, which then is rounded to 16.
        forms = (HALF + 2 * FULL + HALF * several) * logits
        if run.kind == "cpu":
            forms = (2 * HALF + FULL + HALF * several) * logits + HALF * chunk * config.dim
        return HALF * matrix + max(forms, HALF * matrix + 2 * HALF * logits)
    # On a CPU a kernel turns logits into their gradient in place.
    forms = 1 + several if run.kind == "cpu" and not config.logit_cap else 2 + several
    return forms * FULL * logits + FULL * chunk * config.dim
