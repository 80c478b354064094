"""The image classifier on pictures that the test draws: it learns, its directory is safe, and a killed run goes on."""

import argparse
import io
import json
import signal
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cairn.cli import vision as command
from cairn.core.errors import UserError
from cairn.generative import (
    CnnConfig,
    ImageClassification,
    ImageClassifier,
    ImageData,
    Pictures,
    PictureSet,
    VisionConfig,
    load_classifier,
    predict,
    read_pictures,
    save_classifier,
    score_classifier,
    train_classifier,
)
from cairn.generative.images import CIFAR_CLASSES, colours, hold_out
from cairn.models.directory import read_record
from cairn.training import Part, TrainConfig, train

CLASSES = ("disc", "stripes")


def draw(count, seed, size=16):
    """Discs and stripes at any place, in any colour, on noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    rows, columns = np.mgrid[:size, :size]
    pixels = np.empty((count, 3, size, size), np.uint8)
    for i, label in enumerate(labels):
        y, x = rng.uniform(4, size - 4, 2)
        shape = (rows - y) ** 2 + (columns - x) ** 2 < 12 if label == 0 else (rows + int(x)) % 4 < 2
        colour = rng.integers(60, 256, (3, 1, 1))
        pixels[i] = np.clip(shape * colour + rng.normal(20, 15, (3, size, size)), 0, 255)
    return Pictures(pixels, labels)


def picture_set(train=128, test=60):
    return PictureSet(draw(train, 1), draw(test, 2), CLASSES, ())


def settings(**changes):
    training = TrainConfig(steps=12, warmup=2, log_every=4, device="cpu", precision="fp32")
    return VisionConfig(width=4, rows=32, validation=0.1, move=1, train=replace(training, **changes))


def tiny(classes=CLASSES, width=3, size=16):
    return ImageClassifier(CnnConfig(width, size, classes)).initialize(1)


# --- the network


def test_the_network_is_what_torch_makes_of_its_layers():
    """Value and gradients against the same thing built from torch's own modules."""
    model: Any = tiny().double().train()
    convolutions, others = [], iter([3, 3, 6, 6, 6, 12, 12])

    def unit(source, halve=False):
        inputs, out = next(others), source.convolution.weight.shape[0]
        layer = nn.Conv2d(inputs, out, 3, padding=1, bias=False).double()
        with torch.no_grad():
            layer.weight.copy_(source.convolution.weight.view(out, 3, 3, inputs).permute(0, 3, 1, 2))
        convolutions.append(layer)
        return nn.Sequential(
            layer, nn.MaxPool2d(2) if halve else nn.Identity(), nn.BatchNorm2d(out).double(), nn.ReLU()
        )

    stages = [(unit(s.enter, True), [unit(u) for u in s.block] if s.block else []) for s in model.blocks]
    pixels = torch.from_numpy(draw(6, 3).pixels)
    x = (pixels.double() - 127.5) / 64
    for enter, block in stages:
        x = enter(x)
        y = x
        for layer in block:
            y = layer(y)
        x = x + y if block else x
    wanted = x.flatten(2).amax(2) @ model.unembed.weight.T + model.unembed.bias
    logits = model(pixels)
    torch.testing.assert_close(logits, wanted, rtol=1e-9, atol=1e-9)
    logits.square().sum().backward()
    mine = [module.weight.grad for module in model.modules() if type(module).__name__ == "Convolution"]
    theirs = torch.autograd.grad(wanted.square().sum(), [layer.weight for layer in convolutions])
    assert len(mine) == len(theirs) == 7
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a, b.permute(0, 2, 3, 1).flatten(1), rtol=1e-7, atol=1e-9)


def test_counts_and_fresh_weights():
    model: Any = tiny(width=8, size=32)
    assert (
        model.parameter_count()
        == 9 * (3 * 8 + 8 * 16 + 2 * 16**2 + 16 * 32 + 2 * 32**2) + 2 * (8 + 3 * 16 + 3 * 32) + (32 + 1) * 2
    )
    products = 9 * (24 * 1024 + 128 * 256 + 2 * 256 * 64 + 512 * 64 + 2 * 1024 * 16) + 64
    assert model.flops_per_token(1) == 6 * products
    again = ImageClassifier(model.config).initialize(1)
    other = ImageClassifier(model.config).initialize(2)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    assert not torch.equal(model.unembed.weight, other.unembed.weight)
    spread = float(model.blocks[2].block[1].convolution.weight.detach().std())
    assert spread == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.05)
    # The signal is neither lost nor blown up on its way: outputs of the fresh network have a spread of about 1.
    assert 0.3 < float(model(torch.from_numpy(draw(64, 0, 32).pixels)).detach().std()) < 10


def test_the_objective_is_the_sum_of_torch_s_cross_entropy():
    model, pictures = tiny().eval(), draw(10, 4)
    data = ImageData(pictures, rows=10, mirror=False, move=0, seed=1, device="cpu")
    (batch,) = data.batch(0)
    for smoothing in (0.0, 0.3):
        loss, sums = ImageClassification(smoothing).loss(model, batch)
        wanted = nn.CrossEntropyLoss(label_smoothing=smoothing)(model(batch.pixels_BCHW), batch.labels_B)
        assert float(loss.detach()) / data.weight(batch) == pytest.approx(float(wanted.detach()), rel=1e-5)
    right = predict(model, pictures.pixels).argmax(1) == pictures.labels
    assert int(sums["accuracy"]) == right.sum()


# --- pictures


def test_every_epoch_has_each_picture_once():
    pictures = Pictures(np.arange(10, dtype=np.uint8).repeat(3 * 64).reshape(10, 3, 8, 8), np.arange(10))
    data = ImageData(pictures, rows=4, mirror=True, move=2, seed=5, device="cpu")
    seen = [data.batch(step)[0].labels_B.tolist() for step in range(10)]
    seen = np.array(seen).reshape(4, 10)
    assert (np.sort(seen, axis=1) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in seen}) == 4


def test_a_batch_is_a_function_of_seed_step_and_part():
    pictures = draw(40, 0)

    def batch(step, part=Part(), seed=1):
        (found,) = ImageData(pictures, rows=8, mirror=True, move=3, seed=seed, device="cpu").batch(step, part)
        return found

    assert torch.equal(batch(7).pixels_BCHW, batch(7).pixels_BCHW)
    assert not torch.equal(batch(7).pixels_BCHW, batch(8).pixels_BCHW)
    assert not torch.equal(batch(7).pixels_BCHW, batch(7, seed=2).pixels_BCHW)
    whole, halves = batch(3), [batch(3, Part(i, 2)) for i in range(2)]
    for i, half in enumerate(halves):
        assert torch.equal(half.pixels_BCHW, whole.pixels_BCHW[i::2])
        assert torch.equal(half.labels_B, whole.labels_B[i::2])
    with pytest.raises(UserError, match="only 40"):
        ImageData(pictures, rows=41, mirror=True, move=3, seed=1)
    with pytest.raises(UserError, match="set move lower"):
        ImageData(pictures, rows=4, mirror=True, move=16, seed=1)


@pytest.mark.parametrize(("mirror", "move"), [(False, 0), (True, 0), (False, 2), (True, 2)])
def test_pictures_are_mirrored_and_moved_and_nothing_else(mirror, move):
    """Each is one of the pictures that padding by reflection and cutting out can make; all ways come up."""
    pictures = draw(12, 0, 8)
    data = ImageData(pictures, rows=12, mirror=mirror, move=move, seed=3, device="cpu")
    padded = np.pad(pictures.pixels, ((0, 0), (0, 0), (move, move), (move, move)), mode="reflect")
    ways = {}
    for turned in (False, True) if mirror else (False,):
        for y in range(2 * move + 1):
            for x in range(2 * move + 1):
                cut = padded[:, :, y : y + 8, x : x + 8]
                for row, picture in enumerate(cut):
                    ways[(picture[:, :, ::-1] if turned else picture).tobytes()] = (turned, y, x, row)
    found = set()
    for step in range(30):
        for picture, label in zip(data.batch(step)[0].pixels_BCHW.numpy(), data.batch(step)[0].labels_B):
            turned, y, x, row = ways[np.ascontiguousarray(picture).tobytes()]
            assert pictures.labels[row] == label
            found.add((turned, y, x))
    assert len(found) == (2 if mirror else 1) * (2 * move + 1) ** 2


def test_colours_and_what_is_held_out():
    pictures = draw(50, 0)
    mean, deviation = colours(pictures.pixels)
    np.testing.assert_allclose(mean, pictures.pixels.mean(axis=(0, 2, 3)), atol=1e-3)
    np.testing.assert_allclose(deviation, pictures.pixels.std(axis=(0, 2, 3)), atol=1e-3)
    rest, held = hold_out(pictures, 0.2, 1)
    assert (len(rest), len(held), held.labels.sum()) == (40, 10, 5)
    with pytest.raises(UserError, match="above 0"):
        hold_out(pictures, 0.0, 1)


def write_zip(path, pictures, spoilt=False):
    with zipfile.ZipFile(path, "w") as archive:
        for part, chosen in (("train", pictures.train), ("test", pictures.test)):
            for i, (pixels, label) in enumerate(zip(chosen.pixels, chosen.labels)):
                content = io.BytesIO()
                Image.fromarray(pixels.transpose(1, 2, 0)).save(content, "PNG")
                archive.writestr(f"{part}/{CLASSES[label]}/{i:04d}.png", content.getvalue())
        if spoilt:
            archive.writestr("train/disc/9999.png", b"no picture")
    return path


def test_pictures_are_read_from_zip_and_from_the_binary_archive(tmp_path):
    large = PictureSet(draw(8, 1, 32), draw(4, 2, 32), CLASSES, ())
    found = read_pictures(write_zip(tmp_path / "a.zip", large, spoilt=True))
    assert found.classes == CLASSES
    assert len(found.refused) == 1
    order = np.argsort(large.train.labels, kind="stable")
    assert (found.train.pixels == large.train.pixels[order]).all()
    assert (found.test.labels == np.sort(large.test.labels)).all()

    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, part in (("data_batch_1.bin", large.train), ("test_batch.bin", large.test)):
            content = b"".join(bytes([y]) + x.tobytes() for x, y in zip(part.pixels, part.labels))
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    found = read_pictures(tmp_path / "cifar-10-binary.tar.gz")
    assert found.classes == CIFAR_CLASSES
    assert (found.train.pixels == large.train.pixels).all()

    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "data_batch_1").write_bytes(b"\x80\x02.")
    with pytest.raises(UserError, match="python version of CIFAR, a pickle"):
        read_pictures(tmp_path / "pickled")
    (tmp_path / "text.zip").write_text("no zip")
    for name, words in (("text.zip", "neither a folder nor a zip"), ("none", "does not exist")):
        with pytest.raises(UserError, match=words):
            read_pictures(tmp_path / name)


# --- training


def test_it_learns_what_discs_and_stripes_are(tmp_path):
    record = train_classifier(settings(steps=60), picture_set(), tmp_path / "model")
    tested = record["metrics"]["test"]
    assert tested["chance"] == 0.5
    assert tested["low"] > 0.8
    assert tested["n"] == 60 == np.sum(tested["confusion"])
    assert tested["accuracy"] == np.trace(tested["confusion"]) / 60
    assert record["pictures"] == 60 * 32
    rows = [json.loads(line) for line in (tmp_path / "model.run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["accuracy"] > 0.85 > rows[0]["accuracy"]
    assert {"valid_loss", "valid_accuracy"} <= rows[-1].keys()
    loaded = load_classifier(tmp_path / "model")
    assert score_classifier(loaded, picture_set().test)["confusion"] == tested["confusion"]


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    """Batch norm's running figures are part of a checkpoint."""
    config, pictures = settings(checkpoint_every=5), picture_set()
    whole = train_classifier(config, pictures, tmp_path / "whole")

    class StoppedError(Exception):
        pass

    class Stopping(ImageData):
        def batch(self, step, part=Part()):
            if step == 8:
                raise StoppedError
            return super().batch(step, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cairn.generative.classify.ImageData", Stopping)
        with pytest.raises(StoppedError):
            train_classifier(config, pictures, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    first = []

    class Counting(ImageData):
        def batch(self, step, part=Part()):
            first.append(step)
            return super().batch(step, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cairn.generative.classify.ImageData", Counting)
        train_classifier(config, pictures, tmp_path / "cut")
    assert first[0] == 5
    a, b = (load_classifier(tmp_path / name).state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any("running_var" in name for name in a)
    assert read_record(tmp_path / "cut")["metrics"]["test"] == whole["metrics"]["test"]
    again = train_classifier(config, pictures, tmp_path / "whole")  # complete: nothing is done
    assert again == whole
    with pytest.raises(UserError, match="other settings or inputs"):
        train_classifier(replace(config, width=5), pictures, tmp_path / "whole")


def test_what_does_not_fit_batch_norm_is_refused(tmp_path, monkeypatch):
    for changes, words in (
        ({"ema": 0.9}, "train.ema .* batch norm"),
        ({"mup_width": 8}, "train.mup_width"),
        ({"compile": True}, "train.compile"),
    ):
        with pytest.raises(UserError, match=words):
            settings(**changes)

    class Two:
        size = 2

    monkeypatch.setattr("cairn.generative.classify.join", lambda *_: Two())
    with pytest.raises(UserError, match="one process"):
        train_classifier(settings(), picture_set(), tmp_path / "m")


def test_the_trainer_takes_any_optimizer(tmp_path):
    data = ImageData(draw(32, 1), rows=16, mirror=True, move=1, seed=1, device="cpu")
    for optimizer in ("muon", "adamw", "sgd"):
        model, config = tiny(), settings(steps=8, optimizer=optimizer).train
        before = {name: weight.clone() for name, weight in model.named_parameters()}
        train(model, ImageClassification(), data, config, tmp_path / optimizer, title="t", inputs=0)
        assert all(not torch.equal(weight, before[name]) for name, weight in model.named_parameters())


# --- the directory


def test_a_directory_is_read_back_and_others_are_refused(tmp_path):
    model = tiny().eval()
    save_classifier(tmp_path / "m", model, {"stage": "vision"})
    loaded = load_classifier(tmp_path / "m")
    pixels = torch.from_numpy(draw(5, 0).pixels)
    assert torch.equal(loaded(pixels), model(pixels))
    assert loaded.config == model.config
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["cairn.json", "config.json", "model.safetensors"]

    config = json.loads((tmp_path / "m" / "config.json").read_text())
    for changes, words in (
        ({"width": 4}, "config.json says"),
        ({"width": 10**12}, "at most 4096"),
        ({"width": 4096}, "config.json says"),
        ({"classes": ["one"]}, "two or more"),
        ({"deviation": [0.0, 1.0, 1.0]}, "above 0"),
        ({"depth": 9}, "unknown setting"),
        ({"model_type": "gpt2"}, "another kind"),
    ):
        (tmp_path / "m" / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(UserError, match=words):
            load_classifier(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match="truncated"):
        load_classifier(tmp_path / "m")
    with pytest.raises(UserError, match=r"no config\.json"):
        load_classifier(tmp_path)
    with pytest.raises(UserError, match="will not be replaced"):
        save_classifier(tmp_path, model, {})


# --- the command


def test_kill_9_and_the_same_command_again(tmp_path):
    """The process dies in the eighth step; the weights are those of a run that was left alone, bit for bit."""
    write_zip(tmp_path / "p.zip", PictureSet(draw(40, 1, 32), draw(20, 2, 32), CLASSES, ()))
    words = ["--data", str(tmp_path / "p.zip"), "--width", "2", "--rows", "8", "--validation", "0.1", "--threads", "1"]
    words += ["--train.steps", "10", "--train.checkpoint-every", "3", "--train.warmup", "2", "--train.device", "cpu"]

    def command_line(out):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        return parser.parse_args([*words, "--out", str(tmp_path / out)])

    code = """
        import argparse, os, signal, sys
        from cairn.cli import vision
        from cairn.generative import images
        batch = images.ImageData.batch

        def dying(self, step, *rest):
            if step == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            return batch(self, step, *rest)

        images.ImageData.batch = dying
        parser = argparse.ArgumentParser()
        vision.add_arguments(parser)
        vision.run(parser.parse_args(sys.argv[1:]))
    """
    killed = [sys.executable, "-c", textwrap.dedent(code), *words, "--out", str(tmp_path / "killed")]
    assert subprocess.run(killed, capture_output=True, timeout=120).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    assert any((tmp_path / "killed.run" / "checkpoints").iterdir())
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        batch = ImageData.batch
        patch.setattr(ImageData, "batch", lambda self, step, *rest: shown.append(step) or batch(self, step, *rest))
        command.run(command_line("killed"))
    assert shown[0] in (3, 6)  # not from the beginning; the newest checkpoint may not have been whole yet
    command.run(command_line("whole"))
    killed, whole = (tmp_path / name / "model.safetensors" for name in ("killed", "whole"))
    assert killed.read_bytes() == whole.read_bytes()


def test_the_command_trains_tests_and_draws(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    write_zip(tmp_path / "p.zip", PictureSet(draw(40, 1, 32), draw(20, 2, 32), CLASSES, ()), spoilt=True)
    small = ["--width", "2", "--rows", "8", "--validation", "0.1", "--train.steps", "3", "--threads", "1"]
    data = ["--data", str(tmp_path / "p.zip")]

    def run(*words):
        return command.run(parser.parse_args([*data, *small, *words]))

    result = tmp_path / "r.json"
    run("--out", str(tmp_path / "m"), "--picture", str(tmp_path / "c.svg"), "--json", str(result))
    printed = capsys.readouterr()
    assert "chance" in printed.out
    assert "0.5000" in printed.out
    assert "left out 1 files" in printed.out + printed.err
    assert (tmp_path / "c.svg").read_text().count("disc") >= 2
    record = json.loads(result.read_text())
    run("--model", str(tmp_path / "m"), "--json", str(result))
    assert json.loads(result.read_text())["metrics"]["test"] == record["metrics"]["test"]
    with pytest.raises(UserError, match="--out DIR, or the one to test"):
        run()
    with pytest.raises(UserError, match="must end in"):
        run("--out", str(tmp_path / "m"), "--picture", "c.pdf")
