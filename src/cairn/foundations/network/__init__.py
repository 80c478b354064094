"""Networks: layers, losses, optimizers, and what else stands around them, on top of the tensors of the chapter before.

>>> import numpy as np
>>> from cairn.foundations.tensor import Tensor
>>> rng = np.random.default_rng(0)
>>> x_B2 = rng.uniform(-1, 1, size=(200, 2))
>>> y_B = (x_B2[:, 0] * x_B2[:, 1] > 0).astype(int)  # no line separates these classes
>>> model = Sequential(Dense(2, 16, rng), Tanh(), Dense(16, 2, rng))
>>> optimizer = Adam(model.parameters(), lr=0.03)
>>> for _ in range(150):
...     optimizer.zero_grad()
...     cross_entropy(model(Tensor(x_B2)), y_B).backward()
...     optimizer.step()
>>> bool(accuracy(model(Tensor(x_B2)).data, y_B) > 0.95)
True
"""

from cairn.foundations.network.activations import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from cairn.foundations.network.clipping import clip_norm, clip_value
from cairn.foundations.network.convolution import AvgPool2d, Conv2d, Flatten, MaxPool2d
from cairn.foundations.network.dense import Dense
from cairn.foundations.network.diagnostics import Watch
from cairn.foundations.network.dropout import Dropout
from cairn.foundations.network.embedding import Embedding
from cairn.foundations.network.fit import Epoch, accuracy, fit, predict
from cairn.foundations.network.layer import Layer, Sequential
from cairn.foundations.network.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    contrastive,
    cross_entropy,
    focal,
    hinge,
    huber,
    info_nce,
    kl_divergence,
    l1,
    mse,
    multiclass_hinge,
)
from cairn.foundations.network.normalization import BatchNorm, LayerNorm
from cairn.foundations.network.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSProp
from cairn.foundations.network.regularisation import EarlyStopping
from cairn.foundations.network.saving import load, save

__all__ = [
    "GELU",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "AvgPool2d",
    "BatchNorm",
    "Conv2d",
    "Dense",
    "Dropout",
    "EarlyStopping",
    "Embedding",
    "Epoch",
    "Flatten",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "MaxPool2d",
    "Optimizer",
    "RMSProp",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "Watch",
    "accuracy",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "clip_norm",
    "clip_value",
    "contrastive",
    "cross_entropy",
    "fit",
    "focal",
    "hinge",
    "huber",
    "info_nce",
    "kl_divergence",
    "l1",
    "load",
    "mse",
    "multiclass_hinge",
    "predict",
    "save",
]
