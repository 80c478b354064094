"""Mixtures of experts and latent attention against `transformers`: the checks of `cairn parity` with more seeds."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cairn.models import load, save
from cairn.models.families import read_config, write_config
from cairn.parity import experts as parity

SEEDS = range(8)


@pytest.mark.parametrize("check", parity.CHECKS, ids=lambda check: check.part)
def test_check(check):
    worst = max(check.run(seed) for seed in SEEDS)
    assert worst <= check.tolerance


@pytest.mark.parametrize("family", parity.NAMES)
def test_directories_go_both_ways_in_published_names(family, tmp_path, tokenizer):
    """What `save_pretrained` writes is what we write: the same tensors under the same names, bit for bit."""
    oracle = parity.random_oracle(parity.random_fields(family, 3) | {"vocab_size": 400}, 3)
    oracle.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    model, _ = load(tmp_path / "theirs")
    save(tmp_path / "ours", model, tokenizer)
    theirs, ours = (load_file(tmp_path / side / "model.safetensors") for side in ("theirs", "ours"))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert any(".experts.1." in name for name in ours)


@pytest.mark.parametrize("family", parity.NAMES)
@pytest.mark.parametrize("seed", range(6))
def test_both_forms_of_config_json_say_the_same(family, seed, tmp_path):
    """Published files (transformers 4) have rope_theta and rope_scaling, transformers 5 writes rope_parameters."""
    published = parity.random_fields(family, seed)
    transformers.AutoConfig.for_model(**published).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert "rope_parameters" in written
    assert "rope_theta" not in written
    config = read_config(published)
    assert read_config(written) == config
    assert read_config(json.loads(json.dumps(write_config(config)))) == config


def test_layers_that_predict_further_tokens_are_left_out_with_a_word(tmp_path, tokenizer):
    oracle = parity.random_oracle(parity.random_fields("deepseek_v3", 1) | {"vocab_size": 400}, 1)
    oracle.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    plain, _ = load(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    after = f"model.layers.{plain.config.layers}."
    further = {
        after + name: torch.ones(3, 3) for name in ("eh_proj.weight", "enorm.weight", "mlp.experts.0.up_proj.weight")
    }
    save_file(tensors | further, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match="MTP"):
        model, _ = load(tmp_path)
    ids = torch.arange(9)[None]
    with torch.no_grad():
        assert torch.equal(model(ids), plain(ids))
    del further[after + "eh_proj.weight"]  # a layer too many is no such layer
    save_file(tensors | further, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Exception, match=r"enorm|experts"):
        load(tmp_path)
