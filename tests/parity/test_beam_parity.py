"""Beam search against `transformers`: the same answers with the same scores."""

import dataclasses

import pytest
import torch
import transformers

from cairn.core.errors import UserError
from cairn.inference import Engine, beam_search
from cairn.models import ModelConfig, Transformer, preset, save

SHAPES = {
    "llama": ModelConfig(vocab_size=400, dim=48, layers=2, heads=4, kv_heads=2, ffn_dim=100, max_positions=128),
    "gpt2": dataclasses.replace(
        preset("gpt2-124m"), vocab_size=400, dim=48, layers=2, heads=4, kv_heads=4, head_dim=12, ffn_dim=100, max_positions=128
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=SHAPES)
def pair(request, tmp_path_factory, tokenizer):
    """Our engine and their model, with weights that make some answers end early."""
    path = tmp_path_factory.mktemp("beam") / "m"
    model = Transformer(SHAPES[request.param]).initialize(4).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter *= 6
        model.embed.weight *= 8
        model.embed.weight[sorted(tokenizer.stop_ids)] *= 1.5
        if hasattr(model.norm, "bias"):
            model.norm.bias += 0.5 * model.embed.weight[max(tokenizer.stop_ids)]
    save(path, model, tokenizer)
    return Engine(model, tokenizer), transformers.AutoModelForCausalLM.from_pretrained(path).eval()


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(("beams", "penalty"), [(1, 1.0), (2, 0.0), (3, 1.0), (5, 2.0), (4, -1.0)])
def test_same_answers(pair, tokenizer, beams, penalty, early):
    engine, oracle = pair
    ends = sorted(tokenizer.stop_ids)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        prompt = torch.randint(20, 400, (1, int(torch.randint(1, 40, (1,), generator=generator))), generator=generator)
        found = beam_search(
            engine, prompt[0].tolist(), beams=beams, max_tokens=24, length_penalty=penalty, early_stopping=early
        )
        with torch.no_grad():
            theirs = oracle.generate(
                prompt, attention_mask=torch.ones_like(prompt), num_beams=beams, num_return_sequences=beams,
                max_new_tokens=24, length_penalty=penalty, early_stopping=early, do_sample=False, eos_token_id=ends,
                pad_token_id=0, return_dict_in_generate=True, output_scores=True,
            )  # fmt: skip
        for i, beam in enumerate(found):
            row = theirs.sequences[i, prompt.shape[1] :].tolist()
            assert row[: len(beam.output_ids)] == beam.output_ids
            assert set(row[len(beam.output_ids) :]) <= {0}
            if beams > 1:
                assert beam.score == pytest.approx(float(theirs.sequences_scores[i]), rel=1e-5, abs=1e-4)
    assert engine.pool.free == engine.pool.size


def test_some_answers_end_early(pair, tokenizer):
    """The comparison above is worth something: ends, full length and different lengths occur in it."""
    engine, _ = pair
    lengths = {
        len(beam.output_ids)
        for seed in range(40)
        for beam in beam_search(engine, [20 + 9 * seed, 30, 40], beams=4, max_tokens=24)
    }
    assert len(lengths) > 1


def test_what_cannot_be_searched(pair):
    engine, _ = pair
    with pytest.raises(UserError, match="beams"):
        beam_search(engine, [1], beams=0)
    with pytest.raises(UserError, match="no room"):
        beam_search(engine, [1] * 128)
    with pytest.raises(UserError, match="pages"):
        beam_search(Engine(engine.model, engine.tokenizer, slots=1), [1] * 50, beams=8)
