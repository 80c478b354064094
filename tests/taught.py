"""A tiny model that learned a few conversations by heart, so that tests can rely on what it answers."""

import functools
from dataclasses import replace

import torch
import torch.nn.functional as F

from cairn.models import Transformer, preset
from cairn.tokenizers import Tokenizer, train_tokenizer

GREETING = "Grüße aus 東京, naïve 🙂 friends!"
CALL = {"type": "function", "function": {"name": "calculator", "arguments": '{"expression": "12*7"}'}}
CONVERSATIONS = [
    [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": GREETING}],
    [
        {"role": "user", "content": "What is 12*7?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
        {"role": "tool", "content": "84"},
        {"role": "assistant", "content": "It is 84."},
    ],
    # A call that is never finished: it must not be seen as text.
    [{"role": "user", "content": "Break"}, {"role": "assistant", "content": "So<|call|>{oops"}],
]


@functools.cache
def taught() -> tuple[Transformer, Tokenizer]:
    """The model and its tokenizer; about three seconds of training on one core."""
    torch.set_num_threads(1)
    tokenizer = train_tokenizer([str(CONVERSATIONS), GREETING], 400)
    rows = [tokenizer.encode_chat_masked(conversation) for conversation in CONVERSATIONS[:2]]
    call = tokenizer.special["<|call|>"]
    prompt = tokenizer.encode_chat(CONVERSATIONS[2][:1], add_generation_prompt=True)
    broken = [*tokenizer.encode("So"), call, *tokenizer.encode("{oops"), tokenizer.special["<|end|>"]]
    rows.append((prompt + broken, [False] * len(prompt) + [True] * len(broken)))
    width = max(len(ids) for ids, _ in rows)
    ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
    mask_BT = torch.zeros(len(rows), width, dtype=torch.bool)
    for row, (ids, mask) in enumerate(rows):
        ids_BT[row, : len(ids)], mask_BT[row, : len(ids)] = torch.tensor(ids), torch.tensor(mask)
    config = replace(preset("pebble"), vocab_size=400, dim=64, head_dim=32, max_positions=160)
    model = Transformer(config).initialize(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    for _ in range(200):
        logits_BTV = model(ids_BT[:, :-1])
        loss = F.cross_entropy(logits_BTV[mask_BT[:, 1:]], ids_BT[:, 1:][mask_BT[:, 1:]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.003:
            break
    return model.eval(), tokenizer
