"""Augmentation: more examples for free, by changes that leave the answer as it is.

A 3 that stands two pixels to the left is a 3. A network that has not seen it there does not know that; showing it changed
copies says so. What is harmless depends on the data: a mirrored cat is a cat, a mirrored 3 is none.

Every function takes a batch x_BCHW of floats and a generator, gives a new batch of the same shape, and draws anew for each
image. Where a change uncovers something, 0 is put there. Bytes are refused: between 0 and 255 there is no room for rounding.

>>> rng = np.random.default_rng(0)
>>> x = np.zeros((1, 1, 3, 5)); x[0, 0, 1, 2] = 1
>>> shift(np.repeat(x, 100, axis=0), rng, pixels=1).max(axis=0)[0]  # all the places that it was moved to
array([[0., 1., 1., 1., 0.],
       [0., 1., 1., 1., 0.],
       [0., 1., 1., 1., 0.]])
"""

import numpy as np

Array = np.ndarray


def _checked(x_BCHW: Array) -> Array:
    if x_BCHW.ndim != 4 or x_BCHW.dtype.kind != "f":
        raise ValueError(
            f"pictures are (batch, channels, height, width) of floats, got {x_BCHW.shape} of {x_BCHW.dtype}; "
            "bytes become floats by x / 255"
        )
    return x_BCHW


def shift(x_BCHW: Array, rng: np.random.Generator, pixels: int) -> Array:
    """Move each image by a whole number of pixels, up to `pixels`, down and to the side."""
    count, _, height, width = _checked(x_BCHW).shape
    if pixels < 0:
        raise ValueError(f"pixels must be at least 0, got {pixels}")
    padded = np.pad(x_BCHW, ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    rows_B, columns_B = rng.integers(0, 2 * pixels + 1, size=(2, count))
    return windows[np.arange(count), :, rows_B, columns_B]


def flip(x_BCHW: Array, rng: np.random.Generator, probability: float = 0.5) -> Array:
    """Mirror images left to right, each with this probability."""
    mirrored_B = rng.random(len(_checked(x_BCHW))) < probability
    return np.where(mirrored_B[:, None, None, None], x_BCHW[..., ::-1], x_BCHW)


def rotate(x_BCHW: Array, rng: np.random.Generator, degrees: float) -> Array:
    """Turn each image about its middle by an angle up to `degrees` either way."""
    return rotate_and_zoom(x_BCHW, rng, degrees, 0.0)


def zoom(x_BCHW: Array, rng: np.random.Generator, share: float) -> Array:
    """Enlarge or shrink each image about its middle, by a factor of 1 - share to 1 + share."""
    return rotate_and_zoom(x_BCHW, rng, 0.0, share)


def rotate_and_zoom(x_BCHW: Array, rng: np.random.Generator, degrees: float, share: float) -> Array:
    """Both at once, so that pixels are mixed only once: each mixing blurs."""
    if not 0 <= share < 1:
        raise ValueError(f"the share of a zoom is from 0 to below 1, got {share}")
    angle_B = np.deg2rad(rng.uniform(-degrees, degrees, size=len(x_BCHW)))
    factor_B = rng.uniform(1 - share, 1 + share, size=len(x_BCHW))
    cos_B, sin_B = np.cos(angle_B) / factor_B, np.sin(angle_B) / factor_B
    return warp(x_BCHW, np.stack([np.stack([cos_B, -sin_B], -1), np.stack([sin_B, cos_B], -1)], -2))


def warp(x_BCHW: Array, matrix_B22: Array) -> Array:
    """The pixel at (row, column) from the middle is taken from matrix @ (row, column) of the old image.

    That place lies between pixels: the four around it are mixed by how near they are (bilinear interpolation).
    """
    count, channels, height, width = _checked(x_BCHW).shape
    grid_2P = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij")).reshape(2, -1)
    middle_21 = np.array([[(height - 1) / 2], [(width - 1) / 2]])
    places_B2P = (matrix_B22 @ (grid_2P - middle_21) + middle_21).astype(x_BCHW.dtype)
    row_BP, column_BP = places_B2P[:, 0], places_B2P[:, 1]
    top_BP, left_BP = np.floor(row_BP), np.floor(column_BP)
    below_BP, beside_BP = row_BP - top_BP, column_BP - left_BP
    top_BP, left_BP = top_BP.astype(np.int64), left_BP.astype(np.int64)
    flat_BCP = x_BCHW.reshape(count, channels, -1)
    out_BCP = np.zeros_like(flat_BCP)
    for down in (0, 1):
        for right in (0, 1):
            r_BP, c_BP = top_BP + down, left_BP + right
            share_BP = (below_BP if down else 1 - below_BP) * (beside_BP if right else 1 - beside_BP)
            share_BP *= (r_BP >= 0) & (r_BP < height) & (c_BP >= 0) & (c_BP < width)
            # what lies outside has share 0, wherever it is taken from
            place_BP = np.minimum(np.maximum(r_BP * width + c_BP, 0), height * width - 1)
            out_BCP += np.take_along_axis(flat_BCP, place_BP[:, None, :], axis=2) * share_BP[:, None, :]
    return out_BCP.reshape(x_BCHW.shape)


def cutout(x_BCHW: Array, rng: np.random.Generator, size: int) -> Array:
    """Black a square of size x size out, anywhere, also half outside (DeVries and Taylor 2017)."""
    count, _, height, width = _checked(x_BCHW).shape
    top_B, left_B = rng.integers(0, height, count) - size // 2, rng.integers(0, width, count) - size // 2
    row_BH = np.arange(height) - top_B[:, None]
    column_BW = np.arange(width) - left_B[:, None]
    inside_BHW = ((row_BH >= 0) & (row_BH < size))[:, :, None] & ((column_BW >= 0) & (column_BW < size))[:, None, :]
    return np.where(inside_BHW[:, None], np.zeros((), x_BCHW.dtype), x_BCHW)


def noise(x_BCHW: Array, rng: np.random.Generator, std: float) -> Array:
    """Add normal noise to each value."""
    return _checked(x_BCHW) + rng.normal(0.0, std, size=x_BCHW.shape).astype(x_BCHW.dtype)


def mixup(x_BCHW: Array, targets_BC: Array, rng: np.random.Generator, alpha: float = 0.2) -> tuple[Array, Array]:
    """Lay two images over each other, and their targets, which are probabilities, in the same shares (Zhang et al. 2018).

    The share is drawn from Beta(alpha, alpha): for a small alpha mostly near 0 or 1.
    """
    share_B = rng.beta(alpha, alpha, size=len(_checked(x_BCHW))).astype(x_BCHW.dtype)
    other_B = rng.permutation(len(x_BCHW))
    share_B111, share_B1 = share_B[:, None, None, None], share_B[:, None]
    mixed = share_B111 * x_BCHW + (1 - share_B111) * x_BCHW[other_B]
    return mixed, share_B1 * targets_BC + (1 - share_B1) * targets_BC[other_B]
