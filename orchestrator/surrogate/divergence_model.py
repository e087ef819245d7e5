"""The divergence of a candidate, told from what each of its parts does alone, and corrected by what was measured.

The prior mean is the sum over parts: small damages add up (HIGGS, https://arxiv.org/abs/2411.17525 §3). Below 4 bits
and between pruning and quantization they do not, and pairwise terms are most of what is missing (IMPQ,
https://arxiv.org/abs/2509.15455). So log KL is the log of the sum plus a Bayesian linear model over each part's share
of the sum, and over the geometric means of pairs of shares. A training takes a factor off, which grows with its
budget and depends on what it mends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# Of log KL: what is believed of each weight before anything is measured, and what no feature explains.
CONSTANT, SHARE, PAIR = 0.2, 0.4, 0.8
NOISE = 0.12
# A measured log KL that is further than so many times NOISE from what is told counts as much as one that is so far
# (Huber 1964, https://doi.org/10.1214/aoms/1177703732), found in so many rounds.
FAR, ROUNDS = 3.0, 8
# The log factor of a training of the smallest budget, what each e-fold of it adds, what another kind of targets does,
# and references in the loss, which move a model away: what is believed and how surely. It depends on the shares how
# much. Of half a billion parameters references added 0.1 to 0.15.
TRAINED, TRAINED_SPREAD = (-0.6, -0.25, 0.0, 0.1), (0.5, 0.15, 0.4, 0.3)
TRAINED_SHARE = 0.4
# Nats below which a divergence is none: what rounding leaves of it.
LEAST = 1e-5


@dataclass(frozen=True, slots=True)
class DivergenceModel:
    """A posterior over the weights of `features`: their mean, and the covariance of their errors."""

    mean: Array
    covariance: Array

    def predict(self, parts: Array, trained: Array | None = None) -> tuple[Array, Array]:
        """Mean and standard deviation of log KL for candidates of these parts (n, axes): two of (n,). trained: as in
        `features`."""
        seen = features(parts, trained)
        spread = (seen @ self.covariance * seen).sum(axis=1)
        return log_sum(parts) + seen @ self.mean, np.sqrt(spread + NOISE**2)


def fit_divergence(parts: Array, measured: Array, trained: Array | None = None) -> DivergenceModel:
    """The posterior from candidates of these parts (n, axes), in nats, and their measured divergences (n,). trained: as
    in `features`.

    Those without divergence say nothing. Without any that says something it is the prior.
    """
    says = (measured > LEAST) & (parts.sum(axis=1) > LEAST)
    seen = features(parts[says], None if trained is None else trained[says])
    believed, deviations = prior(parts.shape[1], trained is not None)
    error = np.log(measured[says]) - log_sum(parts[says]) - seen @ believed
    weights = np.ones(len(error))
    for _ in range(ROUNDS):
        weighted = seen * weights[:, None] / NOISE**2
        covariance = np.linalg.inv(np.diag(1.0 / deviations**2) + weighted.T @ seen)
        moved = covariance @ (weighted.T @ error)
        away = np.abs(error - seen @ moved)
        if not (away > FAR * NOISE).any():
            break
        weights = np.minimum(1.0, FAR * NOISE / np.maximum(away, LEAST))
    return DivergenceModel(believed + moved, covariance)


def features(parts: Array, trained: Array | None = None) -> Array:
    """1, each part's share of the sum, and for each two parts the geometric mean of their shares; with `trained` that
    too, and each part's share of a candidate that is trained.

    trained: for each candidate 1 if all its weights were trained last, the log of the budget over the smallest, 1 for
    targets by beams, and 1 for references in the loss; zeros where they were not. Shape (n, 4); None for a space that
    trains nothing.
    """
    shares = parts / np.maximum(parts.sum(axis=1, keepdims=True), LEAST)
    one, other = np.triu_indices(parts.shape[1], 1)
    pairs = np.sqrt(shares[:, one] * shares[:, other])
    training = [] if trained is None else [trained, trained[:, :1] * shares]
    return np.concatenate([np.ones((len(parts), 1)), shares, pairs, *training], axis=1)


def prior(axes: int, training: bool = False) -> tuple[Array, Array]:
    """Of each feature's weight what is believed before anything is measured, and its standard deviation. training:
    whether there are features of it."""
    pairs = axes * (axes - 1) // 2
    untrained = np.concatenate([[CONSTANT], np.full(axes, SHARE), np.full(pairs, PAIR)])
    if not training:
        return np.zeros(len(untrained)), untrained
    believed = np.concatenate([np.zeros(len(untrained)), TRAINED, np.zeros(axes)])
    return believed, np.concatenate([untrained, TRAINED_SPREAD, np.full(axes, TRAINED_SHARE)])


def log_sum(parts: Array) -> Array:
    """The log of what the parts do together if they add up."""
    found: Array = np.log(np.maximum(parts.sum(axis=1), LEAST))
    return found
