"""Result files gathered over all pairs of a model: alignments and divergences. B blocks, T datasets, K images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlmrank.store.hdf5 import UTF8, create_hdf5, open_hdf5, texts


@dataclass(frozen=True)
class Alignment:
    """Block importance of every dataset as target, for one model; rows of failed pairs are nan.

    Attributes
    ----------
    datasets : T names.
    importance : float64 [T, B], each row sums to 1.
    prior : float64 [B], sums to 1.
    marginal_error : float64 [T], largest absolute gap between the plan's row sums and the images' mass 1/K.
    iterations : int64 [T], of the transport solver; 0 for a closed form, -1 where there is no alignment.
    reasons : T texts, why there is no alignment; empty where there is one, or where the pair failed before.
    identities : T texts, of the pairs that were aligned.
    """

    datasets: Sequence[str]
    importance: np.ndarray
    prior: np.ndarray
    marginal_error: np.ndarray
    iterations: np.ndarray
    reasons: Sequence[str] = ()
    identities: Sequence[str] = ()


@dataclass(frozen=True)
class Divergences:
    """Directional conductance divergences between all datasets, for one model; failed pairs give nan.

    Attributes
    ----------
    datasets : T names.
    dcd : float64 [T, T], row = source, column = target, zero diagonal.
    per_image : float64 [T, T, K], the share of each target image (nan beyond a dataset's images); its mean over the
        images is `dcd`.
    """

    datasets: Sequence[str]
    dcd: np.ndarray
    per_image: np.ndarray


def write_alignment(path: str | os.PathLike[str], alignment: Alignment) -> None:
    """Write a model's block importances."""
    with create_hdf5(path, "alignment") as file:
        file.create_dataset("datasets", data=texts(alignment.datasets), dtype=UTF8)
        file["importance"] = np.asarray(alignment.importance, np.float64)
        file["prior"] = np.asarray(alignment.prior, np.float64)
        file["marginal_error"] = np.asarray(alignment.marginal_error, np.float64)
        file["iterations"] = np.asarray(alignment.iterations, np.int64)
        reasons = alignment.reasons or [""] * len(alignment.datasets)
        file.create_dataset("reasons", data=texts(reasons), dtype=UTF8)
        identities = alignment.identities or [""] * len(alignment.datasets)
        file.create_dataset("identities", data=texts(identities), dtype=UTF8)


def read_alignment(path: str | os.PathLike[str]) -> Alignment:
    """Read a model's block importances."""
    with open_hdf5(path, "alignment") as file:
        return Alignment(
            datasets=tuple(file["datasets"].asstr()[()]),
            importance=file["importance"][()],
            prior=file["prior"][()],
            marginal_error=file["marginal_error"][()],
            iterations=file["iterations"][()],
            reasons=tuple(file["reasons"].asstr()[()]),
            identities=tuple(file["identities"].asstr()[()]),
        )


def write_dcd(path: str | os.PathLike[str], divergences: Divergences) -> None:
    """Write a model's divergences between all datasets."""
    with create_hdf5(path, "dcd") as file:
        file.create_dataset("datasets", data=texts(divergences.datasets), dtype=UTF8)
        file["dcd"] = np.asarray(divergences.dcd, np.float64)
        file["dcd"].attrs["axes"] = "row = source, column = target"
        file["per_image"] = np.asarray(divergences.per_image, np.float64)


def read_dcd(path: str | os.PathLike[str]) -> Divergences:
    """Read a model's divergences between all datasets."""
    with open_hdf5(path, "dcd") as file:
        return Divergences(
            datasets=tuple(file["datasets"].asstr()[()]), dcd=file["dcd"][()], per_image=file["per_image"][()]
        )
