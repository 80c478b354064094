"""Loss masks, SFT data, DPO: definitions on known numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.alignment import DPO, Pair, conversations, sample_pairs
from cairn.alignment.dpo import (
    PairBatch,
    PairData,
    answer_logprobs,
    pair_tokens,
    preference_accuracy,
    reference_logprobs,
)
from cairn.alignment.preferences import balance, right_reply, select, split
from cairn.corpus.skills import Item
from cairn.inference import Engine
from cairn.models import Transformer, preset
from cairn.tokenizers.chat import SPECIAL_TOKENS

CPU = torch.device("cpu")


def tiny(seed=1):
    return Transformer(preset("pebble")).initialize(seed).eval()


CALCULATION = Item("calculator", "Calculate 2 * 3", "6", expression="2 * 3")


def test_only_the_assistant_is_learned(tokenizer):
    ids, mask = tokenizer.encode_chat_masked(CALCULATION.conversation())
    assert ids == tokenizer.encode_chat(CALCULATION.conversation())
    learned = tokenizer.decode([i for i, m in zip(ids, mask) if m])
    assert learned == '<|call|>{"name": "calculator", "arguments": {"expression": "2 * 3"}}<|end|>6<|end|>'
    masked = tokenizer.decode([i for i, m in zip(ids, mask) if not m])
    assert masked == "<|user|>Calculate 2 * 3<|end|><|assistant|><|tool|>6<|end|><|assistant|>"


@given(st.lists(st.sampled_from([*SPECIAL_TOKENS, "a", " ", "<|", "end|>", "é"]), max_size=8).map("".join))
@settings(max_examples=80, deadline=None)
def test_typed_special_tokens_stay_text(tokenizer, typed):
    """Whatever a user types, the structure of the conversation has the special tokens of the template and no others."""
    ids = tokenizer.encode_chat([{"role": "user", "content": typed}], add_generation_prompt=True)
    assert [i for i in ids if i in tokenizer.special_ids] == [
        tokenizer.special[t] for t in ("<|user|>", "<|end|>", "<|assistant|>")
    ]
    assert tokenizer.decode(ids) == f"<|user|>{typed}<|end|><|assistant|>"


def test_two_questions_in_one_conversation():
    items = [Item("x", f"q{i}", f"a{i}") for i in range(200)]
    talks = conversations(items, 0.3, seed=1)
    assert [m["content"] for talk in talks for m in talk if m["role"] == "user"] == [f"q{i}" for i in range(200)]
    assert 0 < sum(len(t) > 2 for t in talks) < len(talks)


# --- DPO


@pytest.mark.parametrize(("difference", "expected"), [(0.0, 0.6931), (10.0, 0.3133), (20.0, 0.1269)])
def test_golden_losses(difference, expected):
    """D = 0, 10, 20 at beta 0.1, the published values of TRL's definition."""
    model, pair = tiny(), Pair("s", "q", [1, 2], [3, 4], [5])
    tokens = pair_tokens([pair], CPU)
    with torch.no_grad():
        policy = answer_logprobs(model, tokens)[0]
        batch = PairBatch(tokens, policy - torch.tensor([difference, 0.0]))
        loss, metrics = DPO(beta=0.1).loss(model, batch)
    assert abs(loss.item() - expected) < 1e-4
    assert abs(metrics["margin"] - 0.1 * difference) < 1e-4


def test_answer_logprobs_sum_over_the_answer_alone():
    model, pair = tiny(), Pair("s", "q", [7, 8, 9], [3, 4, 5, 6], [5, 1])
    values, lengths = answer_logprobs(model, pair_tokens([pair], CPU))
    for row, answer in ((0, pair.chosen), (1, pair.rejected)):
        ids = torch.tensor([pair.prompt + answer])
        logprobs = model(ids)[0].log_softmax(-1)
        expected = sum(logprobs[len(pair.prompt) - 1 + i, t] for i, t in enumerate(answer))
        torch.testing.assert_close(values[row], expected)
        assert lengths[row] == len(answer)


def test_first_step_is_ln_2_and_gradient_prefers_the_chosen():
    model = tiny()
    pairs = [Pair("s", str(i), [1, 2, i], [3, 4], [5, 6]) for i in range(6)]
    data = PairData(pairs, model, 4, seed=1, device="cpu")
    (batch,) = data.batch(0)
    loss, _ = DPO(0.1).loss(model, batch)
    assert abs(loss.item() / data.weight(batch) - math.log(2)) < 1e-5
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
    score = preference_accuracy(model, data.reference_2N, pairs)
    assert (score.score, score.n, score.chance) == (1.0, 6, 0.5)


def test_reference_is_independent_of_grouping():
    model = tiny()
    pairs = [Pair("s", str(i), [1] * (i + 1), [3] * (i % 3 + 1), [5, 6, 7]) for i in range(7)]
    torch.testing.assert_close(reference_logprobs(model, pairs, group=2), reference_logprobs(model, pairs, group=100))


def test_matches_trl_formula_on_random_numbers():
    """-logsigmoid(beta * ((pi_w - ref_w) - (pi_l - ref_l))), retyped."""
    model = tiny(3)
    generator = torch.Generator().manual_seed(0)
    pairs = [Pair("s", str(i), [i, 2], [3, i], [5, i, 7]) for i in range(5)]
    reference = torch.randn(10, generator=generator) * 5 - 10
    tokens = pair_tokens(pairs, CPU)
    policy = answer_logprobs(model, tokens)[0]
    loss, _ = DPO(0.3).loss(model, PairBatch(tokens, reference))
    margin = (policy[:5] - reference[:5]) - (policy[5:] - reference[5:])
    torch.testing.assert_close(loss, -torch.log(torch.sigmoid(0.3 * margin)).sum())


def test_pairs_are_right_over_wrong_and_repeatable(tokenizer):
    """A model taught one answer half-way gives both right and wrong ones."""
    torch.manual_seed(0)
    item = Item("ends", "What is the first word: a b", "a")
    prompt = tokenizer.encode_chat(item.messages(), add_generation_prompt=True)
    good, bad = right_reply(tokenizer, item), [*tokenizer.encode("b"), tokenizer.special["<|end|>"]]
    model = tiny().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = torch.tensor([prompt + good, prompt + bad])
    for _ in range(120):
        logits = model(rows[:, :-1])[:, len(prompt) - 1 :]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, len(prompt) :].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    engine = Engine(model, tokenizer)
    draws = [sample_pairs(engine, [item] * 3, samples=8, temperature=1.0, seed=5) for _ in range(2)]
    assert draws[0] == draws[1]
    assert draws[0]
    for pair in draws[0]:
        assert pair.chosen == good  # its own where it had one, else the exact answer
        assert pair.rejected != good
        assert pair.prompt == prompt
        assert 0 <= pair.right < 1


def test_slips_come_first_and_luck_only_when_it_must():
    pairs = [Pair("s", str(i), [1], [2], [3], share) for i, share in enumerate([0.0] * 4 + [0.25] * 4 + [0.75] * 4)]
    assert select(pairs, 4) == pairs[8:]
    assert select(pairs, 5) == pairs[4:]
    assert select(pairs, 9) == pairs


def test_held_out_pairs_share_no_question():
    pairs = [Pair("s", f"q{i % 50}", [1], [2], [3]) for i in range(200)]
    training, held = split(pairs)
    assert training
    assert held
    assert not {p.question for p in training} & {p.question for p in held}


def test_balance_caps_a_skill():
    pairs = [Pair("hard", str(i), [1], [2], [3]) for i in range(90)] + [
        Pair("easy", str(i), [1], [2], [3]) for i in range(10)
    ]
    kept = balance(pairs, 0.25)
    assert sum(p.skill == "hard" for p in kept) == 25
    assert sum(p.skill == "easy" for p in kept) == 10
