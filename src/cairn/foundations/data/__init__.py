"""Data: pictures with labels, from the files that the field hands round, and batches of them.

Files come from anywhere, so no reader believes what a header says: sizes are compared with what is there before memory is
taken, nothing is unpacked to disk, and no pickle is ever opened.

>>> import numpy as np
>>> y_N = np.array([0] * 8 + [1] * 4)
>>> [y_N[rows].tolist() for rows in stratified_split(y_N, (0.75, 0.25), seed=0)]
[[0, 0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 1]]
"""

from cairn.foundations.data.batches import batches, stratified_split
from cairn.foundations.data.cifar import read_cifar_binary
from cairn.foundations.data.digits import Split, load_digits, split_images
from cairn.foundations.data.idx import read_idx, read_mnist, write_idx
from cairn.foundations.data.images import Images, read_images

__all__ = [
    "Images",
    "Split",
    "batches",
    "load_digits",
    "read_cifar_binary",
    "read_idx",
    "read_images",
    "read_mnist",
    "split_images",
    "stratified_split",
    "write_idx",
]
