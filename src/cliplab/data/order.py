"""Everything random about data, as pure functions of (seed, epoch, index): the same for any number of workers."""

import numpy as np

_MIX_1, _MIX_2, _STEP = (np.uint64(x) for x in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15))


def _mix(x: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser (Steele et al. 2014): a pseudo-random bijection of 64-bit integers."""
    with np.errstate(over="ignore"):
        x = x + _STEP
        x = (x ^ (x >> np.uint64(30))) * _MIX_1
        x = (x ^ (x >> np.uint64(27))) * _MIX_2
        return x ^ (x >> np.uint64(31))


def uniforms(seed: int, epoch: int | np.ndarray, indices: np.ndarray, count: int) -> np.ndarray:
    """``[len(indices), count]`` numbers in [0, 1); row i depends on seed, epoch and ``indices[i]`` alone."""
    keys = _mix(np.full(len(indices), seed, dtype=np.uint64))
    keys = _mix(keys ^ np.asarray(epoch, dtype=np.uint64))
    keys = _mix(keys ^ np.asarray(indices, dtype=np.uint64))
    columns = np.arange(count, dtype=np.uint64)[None, :]
    return (_mix(_mix(keys[:, None] ^ columns)) >> np.uint64(11)) * 2.0**-53


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """A separate generator for one sample of one epoch (Philox, which is counter-based)."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, index]))


def epoch_permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    """The order of samples in one epoch: int64 ``[size]``."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(size)
