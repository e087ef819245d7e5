"""The divergence of a candidate, told from what each of its parts does alone, and corrected by what was measured.

The prior mean is the sum over parts: small damages add up (HIGGS, https://arxiv.org/abs/2411.17525 §3). Below 4 bits
and between pruning and quantization they do not, and pairwise terms are most of what is missing (IMPQ,
https://arxiv.org/abs/2509.15455). So log KL is the log of the sum plus a Bayesian linear model over each part's share
of the sum, and over the geometric means of pairs of shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# Of log KL: what is believed of each weight before anything is measured, and what no feature explains.
CONSTANT, SHARE, PAIR = 0.2, 0.4, 0.8
NOISE = 0.12
# Nats below which a divergence is none: what rounding leaves of it.
LEAST = 1e-5


@dataclass(frozen=True, slots=True)
class DivergenceModel:
    """A posterior over the weights of `features`: their mean, and the covariance of their errors."""

    mean: Array
    covariance: Array

    def predict(self, parts: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of log KL for candidates of these parts (n, axes): two of (n,)."""
        seen = features(parts)
        spread = np.einsum("ij,jk,ik->i", seen, self.covariance, seen)
        return log_sum(parts) + seen @ self.mean, np.sqrt(spread + NOISE**2)


def fit_divergence(parts: Array, measured: Array) -> DivergenceModel:
    """The posterior from candidates of these parts (n, axes), in nats, and their measured divergences (n,).

    Those without divergence say nothing. Without any that says something it is the prior.
    """
    says = (measured > LEAST) & (parts.sum(axis=1) > LEAST)
    seen = features(parts[says])
    precision = np.diag(1.0 / prior_deviations(parts.shape[1]) ** 2) + seen.T @ seen / NOISE**2
    covariance = np.linalg.inv(precision)
    error = np.log(measured[says]) - log_sum(parts[says])
    return DivergenceModel(covariance @ (seen.T @ error) / NOISE**2, covariance)


def features(parts: Array) -> Array:
    """1, each part's share of the sum, and for each two parts the geometric mean of their shares."""
    shares = parts / np.maximum(parts.sum(axis=1, keepdims=True), LEAST)
    one, other = np.triu_indices(parts.shape[1], 1)
    return np.concatenate([np.ones((len(parts), 1)), shares, np.sqrt(shares[:, one] * shares[:, other])], axis=1)


def prior_deviations(axes: int) -> Array:
    """The standard deviation of each feature's weight before anything is measured."""
    return np.concatenate([[CONSTANT], np.full(axes, SHARE), np.full(axes * (axes - 1) // 2, PAIR)])


def log_sum(parts: Array) -> Array:
    """The log of what the parts do together if they add up."""
    found: Array = np.log(np.maximum(parts.sum(axis=1), LEAST))
    return found
