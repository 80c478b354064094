"""Recipes of other trainers: Accelerate trains the same model on the same rows to the same losses as cairn's own trainer."""

import json
import os
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import cairn
from cairn.cli.main import main
from cairn.corpus import write_shard
from cairn.tokenizers import Tokenizer
from cairn.training import CausalLM, TrainConfig
from cairn.training.causal_rows import ShardData
from cairn.training.trainer import train

pytest.importorskip("accelerate")
from cairn.training.recipes import accelerate_state, accelerate_train
from cairn.training.recipes.accelerate_train import RecipeConfig

STEPS = 5
CONFIG = RecipeConfig(rows=6, micro_rows=2, context=32, steps=STEPS, warmup=2, lr=1e-3, weight_decay=0.1, log_every=1)


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Accelerate keeps the state of a process in its classes."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def losses(out):
    lines = out.with_name(out.name + ".run").joinpath("metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def recipe(out, model, corpus, config=CONFIG):
    accelerate_train.train(config, model, out, corpus.path, None)
    return out


@pytest.fixture(scope="module")
def ours(model_directory, corpus, tmp_path_factory):
    """Losses and weights of cairn's own trainer."""
    run = tmp_path_factory.mktemp("ours")
    model, words = cairn.load(model_directory)
    shard = write_shard(run / "shard", corpus.texts("general-train"), words, corpus.fingerprint())
    c = CONFIG
    data = ShardData([shard], rows=c.rows, context=c.context, micro_rows=c.micro_rows, seed=c.seed, device="cpu")
    common = {
        "steps": STEPS,
        "lr": c.lr,
        "weight_decay": c.weight_decay,
        "warmup": c.warmup,
        "log_every": 1,
        "device": "cpu",
        "precision": "fp32",
    }
    train(model, CausalLM(), data, TrainConfig(optimizer="adamw", **common), run, title="ours", inputs=[])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows], dict(model.named_parameters())


def assert_as_ours(out, ours):
    expected, weights = ours
    assert losses(out) == pytest.approx(expected, abs=2e-5)
    model, words = cairn.load(out)
    for name, parameter in model.named_parameters():
        # A step of Adam divides by the gradient's size: where that is rounding, the step is too.
        torch.testing.assert_close(parameter, weights[name], rtol=0, atol=2e-4)
    assert words.encode("The cairn")


def test_accelerate_trains_as_cairn_does(ours, model_directory, corpus, tmp_path, capfd):
    out = recipe(tmp_path / "out", model_directory, corpus)
    assert_as_ours(out, ours)
    record = json.loads((out / "cairn.json").read_text())
    assert record["stage"] == "accelerate"
    assert record["tokens"] == STEPS * CONFIG.rows * CONFIG.context
    assert record["parents"].keys() == {model_directory.name}
    before = (out / "model.safetensors").stat().st_mtime_ns
    recipe(out, model_directory, corpus)
    assert "is complete" in capfd.readouterr().err
    assert (out / "model.safetensors").stat().st_mtime_ns == before


def test_the_directory_loads_in_transformers(model_directory, corpus, tmp_path):
    from transformers import AutoModelForCausalLM

    out = recipe(tmp_path / "out", model_directory, corpus)
    ids_BT = torch.arange(12)[None]
    model, _ = cairn.load(out)
    theirs = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    torch.testing.assert_close(model(ids_BT), theirs(ids_BT).logits, rtol=1e-4, atol=1e-4)


def test_a_killed_run_goes_on_to_the_same_weights(model_directory, corpus, tmp_path, monkeypatch, capfd):
    config = replace(CONFIG, checkpoint_every=2)
    whole = recipe(tmp_path / "whole", model_directory, corpus, config)

    class Killed(BaseException):
        pass

    def save_and_die(accelerator, folder, state):
        accelerate_state.save_state(accelerator, folder, state)
        if state["step"] == 4:
            raise Killed

    monkeypatch.setattr(accelerate_train, "save_state", save_and_die)
    with pytest.raises(Killed):
        recipe(tmp_path / "killed", model_directory, corpus, config)
    monkeypatch.undo()
    checkpoints = tmp_path / "killed.run" / "checkpoints"
    assert sorted(p.name for p in checkpoints.iterdir()) == ["step-0000002", "step-0000004"]
    (checkpoints / "step-0000006.partial").mkdir()  # what a process killed while writing leaves
    killed = recipe(tmp_path / "killed", model_directory, corpus, config)
    assert "going on at step 4 of 5" in capfd.readouterr().err
    assert losses(killed) == losses(whole)
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert not checkpoints.exists()


def test_a_checkpoint_of_another_run_is_refused(model_directory, corpus, tmp_path, monkeypatch):
    config = replace(CONFIG, checkpoint_every=2)

    def save_and_stop(accelerator, folder, state):
        accelerate_state.save_state(accelerator, folder, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(accelerate_train, "save_state", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        recipe(tmp_path / "out", model_directory, corpus, config)
    with pytest.raises(ValueError, match="other settings or other data"):
        recipe(tmp_path / "out", model_directory, corpus, replace(config, lr=1e-2))
    state = tmp_path / "out.run" / "checkpoints" / "step-0000002" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"processes": 3}))
    with pytest.raises(ValueError, match="of 3 processes, these are 1"):
        recipe(tmp_path / "out", model_directory, corpus, config)


def test_shards_are_those_of_the_models_tokenizer(model_directory, corpus, tokenizer, tmp_path, capsys):
    shards = tmp_path / "shards"
    write_shard(shards / "train-0", corpus.texts("general-train"), Tokenizer.load(model_directory), "source")
    common = ["--steps", "1", "--rows", "2", "--context", "16", "--shards", str(shards)]
    assert accelerate_train.main(["--model", str(model_directory), "--out", str(tmp_path / "out"), *common]) == 0
    assert cairn.load(tmp_path / "out")
    from cairn.tokenizers import train_tokenizer

    write_shard(
        shards / "train-0", ["other text, other pieces"] * 40, train_tokenizer(["other text"] * 20, 300), "source"
    )
    assert accelerate_train.main(["--model", str(model_directory), "--out", str(tmp_path / "more"), *common]) == 2
    assert "another tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_what_is_no_model_directory_is_named(missing, corpus, model_directory, tmp_path, capsys):
    import shutil

    shutil.copytree(model_directory, tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    words = ["--model", str(tmp_path / "model"), "--corpus", str(corpus.path), "--out", str(tmp_path / "out")]
    assert accelerate_train.main(words) == 2
    assert str(tmp_path / "model") in capsys.readouterr().err


# --- configuration files


def launch(target, out, *options, command):
    assert main(["launch", target, "--out", str(out), *map(str, options), "--", *command]) == 0
    return out


ARGUMENTS = ["--model", "m", "--corpus", "c", "--out", "o"]
KINDS = {
    "one CPU": (["--gpus", 0], "NO"),
    "processes on CPUs": (["--gpus", 0, "--processes", 2], "MULTI_GPU"),
    "one GPU": (["--gpus", 1], "NO"),
    "DDP": (["--gpus", 4, "--nodes", 2, "--accelerate.precision", "bf16"], "MULTI_GPU"),
    "FSDP2": (["--gpus", 4, "--accelerate.shard"], "FSDP"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_accelerate_reads_its_file(kind, tmp_path):
    from accelerate.commands.config.config_args import load_config_from_file

    options, expected = KINDS[kind]
    launch("accelerate", tmp_path / "job", *options, command=ARGUMENTS)
    config = load_config_from_file(str(tmp_path / "job" / "accelerate.yaml"))  # refuses unknown keys
    assert config.distributed_type == expected
    assert config.num_processes == {"one CPU": 1, "processes on CPUs": 2, "one GPU": 1, "DDP": 8, "FSDP2": 4}[kind]
    assert config.use_cpu == ("CPU" in kind)
    assert config.mixed_precision == ("bf16" if kind == "DDP" else "no")


def launcher_arguments(folder):
    """What `accelerate launch` makes of a job's file: its own parser and its own checks."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    words = ["--config_file", str(folder / "accelerate.yaml"), "-m", "module"]
    return _validate_launch_command(launch_command_parser().parse_args(words))[0]


def test_the_settings_of_fsdp_arrive(tmp_path, monkeypatch):
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    folder = launch("accelerate", tmp_path / "job", "--gpus", 4, "--accelerate.shard", command=ARGUMENTS)
    arguments = launcher_arguments(folder)
    assert arguments.use_fsdp
    for name, value in prepare_multi_gpu_env(arguments).items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.state_dict_type.name == "SHARDED_STATE_DICT"
    assert "transformer_auto_wrap_policy" in str(plugin.auto_wrap_policy)


DEEPSPEED = {
    "1": (1, "none", "bf16", ["--deepspeed.zero", 1]),
    "2 in float16": (2, "none", "fp16", ["--deepspeed.precision", "fp16"]),
    "2, optimizer on the CPU": (2, "cpu", "bf16", ["--deepspeed.offload", "optimizer"]),
    "3": (3, "none", "bf16", ["--deepspeed.zero", 3]),
    "3, all on the CPU": (3, "cpu", "bf16", ["--deepspeed.zero", 3, "--deepspeed.offload", "parameters"]),
}


@pytest.mark.parametrize("kind", DEEPSPEED)
def test_accelerate_and_transformers_read_deepspeeds_file(kind, tmp_path):
    from accelerate.utils import DeepSpeedPlugin
    from accelerate.utils.deepspeed import HfDeepSpeedConfig

    stage, device, precision, options = DEEPSPEED[kind]
    folder = launch("deepspeed", tmp_path / "job", "--gpus", 4, "--nodes", 2, *options, command=ARGUMENTS)
    path = str(folder / "deepspeed.json")
    plugin = DeepSpeedPlugin(hf_ds_config=path)
    assert plugin.zero_stage == stage
    assert plugin.offload_optimizer_device == device
    assert plugin.offload_param_device == ("cpu" if "all" in kind else "none")
    assert plugin.zero3_save_16bit_model == (stage == 3)
    config = HfDeepSpeedConfig(path)
    assert config.is_zero3() == (stage == 3)
    assert config.is_offload() == (device == "cpu")
    assert config.get_value(f"{precision}.enabled") is True
    arguments = launcher_arguments(folder)
    assert arguments.use_deepspeed
    assert arguments.deepspeed_config_file == path
    assert arguments.deepspeed_multinode_launcher == "standard"


@pytest.mark.parametrize("kind", DEEPSPEED)
def test_deepspeed_reads_its_file(kind, tmp_path, monkeypatch):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: its file is read by Accelerate alone here")
    from deepspeed.runtime.config import DeepSpeedConfig

    stage, device, precision, options = DEEPSPEED[kind]
    folder = launch("deepspeed", tmp_path / "job", "--gpus", 1, *options, command=ARGUMENTS)
    settings = json.loads((folder / "deepspeed.json").read_text())
    filled = {"train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 3, "gradient_clipping": 1.0}
    assert {key for key, value in settings.items() if value == "auto"} == filled.keys()  # what the recipe fills in
    config = DeepSpeedConfig(settings | filled)
    assert config.zero_optimization_stage == stage
    assert (config.zero_config.offload_optimizer is not None) == (device == "cpu")
    assert config.bfloat16_config.enabled == (precision == "bf16")
    assert config.float16_config.enabled == (precision == "fp16")


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("accelerate", ["--gpus", 0, "--accelerate.shard"], "on GPUs alone"),
        ("deepspeed", ["--gpus", 0], "on GPUs alone"),
        ("deepspeed", ["--deepspeed.offload", "parameters"], "needs deepspeed.zero 3"),
        ("accelerate", ["--deepspeed.zero", 3], "means nothing to accelerate"),
    ],
)
def test_impossible_engines_are_refused(target, options, message, tmp_path, capsys):
    words = ["launch", target, "--out", str(tmp_path / "job"), *map(str, options), "--", *ARGUMENTS]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "job").exists()


@pytest.mark.slow
def test_two_processes_of_accelerate_launch_train_as_one(ours, model_directory, corpus, tmp_path):
    settings = {"rows": 6, "micro-rows": 1, "context": 32, "steps": STEPS, "warmup": 2, "lr": 1e-3, "weight-decay": 0.1}
    words = [word for key, value in (settings | {"log-every": 1}).items() for word in (f"--{key}", str(value))]
    paths = ["--model", model_directory, "--corpus", corpus.path, "--out", tmp_path / "my model"]
    command = [*map(str, paths), *words]
    launch("accelerate", tmp_path / "my job", "--gpus", 0, "--processes", 2, "--restarts", 0, command=command)
    done = subprocess.run(
        ["bash", tmp_path / "my job" / "run.sh"], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_as_ours(tmp_path / "my model", ours)


def test_processes_that_do_not_find_each_other_are_refused(monkeypatch):
    """Each of two processes whose Accelerate believes to be alone would train the whole model."""
    import accelerate

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "Accelerator", lambda cpu: SimpleNamespace(num_processes=1))
    with pytest.raises(ValueError, match="2 processes were started, Accelerate counts 1"):
        accelerate_train.join()
