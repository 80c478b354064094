"""A small residual network for pictures: convolutions with batch norm, in blocks around which the signal can pass.

A convolution asks the same question at every place of a picture: 9 weights for each pair of channels serve all its pixels,
and what is learned in one corner holds in the others. Each stage looks for more kinds of things (channels double) at fewer
places (the picture halves), and keeps what it was given beside what it adds (He et al. 2016). In short, from 32 x 32 pixels:

    3 x 32 x 32 -> w x 16 x 16 -> 2w x 8 x 8 + block -> 4w x 4 x 4 + block -> largest over the places -> classes

after the plan of the ResNet-9 of DAWNBench's CIFAR runs, much smaller.

Shapes: B pictures, C channels, H height, W width, O channels that come out, L classes.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from cairn.core.config import option
from cairn.core.errors import UserError
from cairn.models.model import Model

STAGES = 3  # each halves height and width
LARGEST_WIDTH = 4096


@dataclass(frozen=True)
class CnnConfig:
    """The shape of the network, what its classes are called, and the colours it was trained on."""

    width: int = option(32, "channels of the first stage; the others have 2 and 4 times as many", minimum=1)
    size: int = option(32, "height and width of a picture", minimum=2**STAGES)
    classes: tuple[str, ...] = option((), "names of the classes, in the order of the logits")
    mean: tuple[float, ...] = option(
        (127.5, 127.5, 127.5), "mean of each channel over the training pictures, of 0 to 255"
    )
    deviation: tuple[float, ...] = option((64.0, 64.0, 64.0), "and its standard deviation")

    def __post_init__(self) -> None:
        if self.width > LARGEST_WIDTH:
            raise UserError(f"width must be at most {LARGEST_WIDTH}, got {self.width}")
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise UserError(f"classes must be two or more different names, got {self.classes}")
        if len(self.mean) != len(self.deviation) or not all(d > 0 for d in self.deviation):
            raise UserError("mean and deviation are a number for each channel, the deviation above 0")


class Convolution(nn.Module):
    """3 x 3, at every place, edges padded with 0. Filters are the rows of a matrix (O, 9 C), so that an optimizer of matrices
    (Muon) takes them as what they are: maps from a patch of the picture to what is seen there."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, 9 * channels))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        # Channels stand last within a row, as in the pictures' memory: no copy before the product.
        filters_OCHW = self.weight.view(len(self.weight), 3, 3, -1).permute(0, 3, 1, 2)
        return F.conv2d(x_BCHW, filters_OCHW, padding=1)


class Unit(nn.Module):
    """Convolution, batch norm (Ioffe and Szegedy 2015), ReLU; with `halve` the largest of each 2 x 2 places in between."""

    def __init__(self, channels: int, out: int, halve: bool = False):
        super().__init__()
        self.convolution, self.halve = Convolution(channels, out), halve
        self.norm = nn.BatchNorm2d(out)
        self.norm.num_batches_tracked = None  # a count that nobody reads: the running mean has a fixed momentum

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BOHW = self.convolution(x_BCHW)
        if self.halve:  # before the norm, which then has a quarter of the work
            x_BOHW = F.max_pool2d(x_BOHW, 2)
        return F.relu(self.norm(x_BOHW))


class Stage(nn.Module):
    """Half the places, `out` channels, and with `block` something added to what came."""

    def __init__(self, channels: int, out: int, block: bool):
        super().__init__()
        self.enter = Unit(channels, out, halve=True)
        self.block = nn.Sequential(Unit(out, out), Unit(out, out)) if block else None

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BOHW = self.enter(x_BCHW)
        return x_BOHW if self.block is None else x_BOHW + self.block(x_BOHW)


class ImageClassifier(Model):
    """`model(pixels_BCHW)` gives logits (B, L); pixels are bytes, or numbers from 0 to 255, red first."""

    config: CnnConfig

    def __init__(self, config: CnnConfig):
        super().__init__()
        self.config = config
        channels = [len(config.mean), config.width, 2 * config.width, 4 * config.width]
        self.blocks = nn.ModuleList(Stage(channels[i], channels[i + 1], block=i > 0) for i in range(STAGES))
        self.unembed = nn.Linear(channels[-1], len(config.classes))

    def initialize(self, seed: int) -> "ImageClassifier":
        """Fresh weights, drawn on the CPU in the order of names: deviation sqrt(2 / inputs) before a ReLU, which halves what
        passes (He et al. 2015); gains 1, biases 0."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    gain = 1.0 if name.startswith("unembed") else 2.0
                    drawn = torch.randn(parameter.shape, generator=generator)
                    parameter.copy_(drawn * math.sqrt(gain / parameter.shape[1]))
                else:
                    parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        return self

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        shape, device = (1, -1, 1, 1), pixels_BCHW.device
        mean, deviation = (
            torch.tensor(v, device=device).view(shape) for v in (self.config.mean, self.config.deviation)
        )
        dtype = self.unembed.weight.dtype
        x_BCHW = ((pixels_BCHW - mean) / deviation).to(dtype, memory_format=torch.channels_last)
        for block in self.blocks:
            x_BCHW = block(x_BCHW)
        return self.unembed(x_BCHW.amax(dim=(2, 3)))

    def flops_per_token(self, context: int) -> float:
        """Training FLOPs a picture, which is what counts as a token here: 6 a weight and a place where it multiplies."""
        size, total = self.config.size, self.unembed.weight.numel()
        for stage in self.blocks:
            for unit in (module for module in stage.modules() if isinstance(module, Unit)):
                total += unit.convolution.weight.numel() * size * size
                size = size // 2 if unit.halve else size
        return 6.0 * total
