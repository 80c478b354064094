"""One trainer of `benchmarks/train.py` in a process of its own: steps when it is told to, then its peak of memory."""

import contextlib
import math
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

RATE, DECAY, BETAS, CLIP = 6e-4, 0.1, (0.9, 0.95), 1.0


def memory(field: str) -> float:
    """Megabytes of this process: VmRSS now, VmHWM at the peak."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


class Rows:
    """The same random rows for every trainer; a turn ends after `steps` of them."""

    def __init__(self, vocabulary: int, rows: int, width: int, steps: int):
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(0, vocabulary, (4, rows, width + 1), generator=generator)
        self.steps, self.began = steps, 0.0

    def __call__(self, step: int) -> torch.Tensor:
        """Ids (rows, width + 1) of a step. Between turns it waits for a line; at the end of the input it raises EOFError."""
        if step % self.steps == 0:
            if step:
                print(time.perf_counter() - self.began, flush=True)
            if not sys.stdin.readline():
                raise EOFError
            self.began = time.perf_counter()
        return self.ids[step % 4]


def cairn_trainer(rows: Rows, precision: str, vocabulary: int, dim: int, layers: int, heads: int, width: int) -> None:
    from dataclasses import replace

    from cairn.models import Transformer, preset
    from cairn.training import CausalLM, Part, TokenBatch, TrainConfig, train

    class Data:
        context = width

        def batch(self, step: int, part: Part = Part()) -> list[TokenBatch]:
            ids = rows(step)
            return [TokenBatch(ids[:, :-1], ids[:, 1:], ids[:, 1:].numel())]

        def weight(self, batch: TokenBatch) -> float:
            return float(batch.counted)

        def tokens(self, batch: TokenBatch) -> int:
            return batch.inputs_BT.numel()

    config = replace(
        preset("gpt2-124m"),
        vocab_size=vocabulary,
        dim=dim,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=0,
        ffn_dim=4 * dim,
        max_positions=width,
    )
    settings = TrainConfig(
        steps=10**6,
        optimizer="adamw",
        lr=RATE,
        weight_decay=DECAY,
        beta2=BETAS[1],
        clip=CLIP,
        checkpoint_every=10**6,
        device="cpu",
        precision=precision,
    )
    model = Transformer(config).initialize(0)
    with tempfile.TemporaryDirectory() as run:
        train(model, CausalLM(), Data(), settings, Path(run), title="ours", inputs=0)


class PlainGPT(nn.Module):
    """GPT-2 in the fewest lines."""

    def __init__(self, vocabulary: int, dim: int, layers: int, heads: int, width: int):
        super().__init__()
        self.embed, self.position = nn.Embedding(vocabulary, dim), nn.Embedding(width, dim)
        self.blocks = nn.ModuleList(PlainBlock(dim, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, vocabulary, bias=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)
        self.head.weight = self.embed.weight

    def forward(self, ids_BT: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids_BT) + self.position(torch.arange(ids_BT.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets_BT.reshape(-1))


class PlainBlock(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.activation = nn.GELU(approximate="tanh")  # GPT-2's

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, D = x.shape
        q, k, v = (y.view(B, T, self.heads, -1).transpose(1, 2) for y in self.qkv(self.norm_1(x)).split(D, dim=2))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(z.transpose(1, 2).reshape(B, T, D))
        return x + self.down(self.activation(self.up(self.norm_2(x))))


def plain_trainer(rows: Rows, precision: str, vocabulary: int, dim: int, layers: int, heads: int, width: int) -> None:
    model = PlainGPT(vocabulary, dim, layers, heads, width)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    groups = [
        {"params": matrices, "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS)
    for step in range(10**6):
        ids = rows(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(ids[:, :-1], ids[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def transformers_trainer(
    rows: Rows, precision: str, vocabulary: int, dim: int, layers: int, heads: int, width: int
) -> None:
    import transformers

    config = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_embd=dim,
        n_layer=layers,
        n_head=heads,
        n_positions=width,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    model = transformers.GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=BETAS, weight_decay=DECAY, fused=True)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 50, 10**6)
    for step in range(10**6):
        ids = rows(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=ids[:, :-1], labels=ids[:, :-1]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)


TRAINERS = {"ours": cairn_trainer, "nanoGPT-style loop": plain_trainer, "transformers loop": transformers_trainer}


if __name__ == "__main__":
    name, precision = sys.argv[1:3]
    threads, steps, vocabulary, dim, layers, heads, count, width = map(int, sys.argv[3:])
    torch.set_num_threads(threads)
    if name == "transformers loop":
        import transformers  # noqa: F401 (its import is not the training's memory)
    if name == "ours":
        import cairn.training  # noqa: F401
    before = memory("VmRSS")
    with contextlib.suppress(EOFError):
        TRAINERS[name](Rows(vocabulary, count, width, steps), precision, vocabulary, dim, layers, heads, width)
    print(math.ceil(memory("VmHWM") - before), flush=True)
