"""Read torchvision's datasets by name and split, such as `CIFAR10/test`."""

from __future__ import annotations

import inspect
from functools import lru_cache
from pathlib import Path

from vlmrank.errors import VlmrankError
from vlmrank.text import nearest

# Left out: LSUN, which unpickles a file of its folder unchecked, and datasets without one label per image.
CLASSIFICATION = frozenset(
    (
        *("Caltech101", "Caltech256", "CIFAR10", "CIFAR100", "CLEVRClassification", "Country211", "DTD", "EMNIST"),
        *("EuroSAT", "FashionMNIST", "FER2013", "FGVCAircraft", "Flowers102", "Food101", "GTSRB", "ImageNet"),
        *(
            "Imagenette",
            "INaturalist",
            "KMNIST",
            "LFWPeople",
            "MNIST",
            "Omniglot",
            "OxfordIIITPet",
            "PCAM",
            "Places365",
        ),
        *("QMNIST", "RenderedSST2", "SEMEION", "StanfordCars", "STL10", "SUN397", "SVHN", "USPS"),
    )
)


def _parse(name: str) -> tuple[str, str]:
    kind, _, split = name.partition("/")
    return kind, split or "test"


@lru_cache(maxsize=4)
def open_torchvision(name: str, root: str, *, download: bool = False):
    """Open `Name/split` of torchvision's classification datasets below `root`.

    The split goes to the dataset's own argument, whatever that is called: `train` (true for `train`), `split` or
    `image_set`; a dataset without one takes `all` alone.

    Raises
    ------
    VlmrankError : torchvision has no such dataset or split, it does not exist, or it cannot be downloaded.
    """
    from torchvision import datasets

    kind, split = _parse(name)
    known = {name: getattr(datasets, name) for name in CLASSIFICATION if hasattr(datasets, name)}
    if kind not in known:
        hint = nearest(kind, known) or f"There are {', '.join(sorted(known))}."
        raise VlmrankError(f"torchvision has no dataset {kind!r} with one label per image that is read here. {hint}")
    parameters = inspect.signature(known[kind].__init__).parameters
    options: dict[str, object] = {}
    if "train" in parameters:
        if split not in ("train", "test"):
            raise VlmrankError(f"{kind} has the splits train and test, not {split!r}")
        options["train"] = split == "train"
    elif "split" in parameters or "image_set" in parameters:
        options["split" if "split" in parameters else "image_set"] = split
    elif split not in ("all", "test"):
        raise VlmrankError(f"{kind} has no splits; write {kind}/all")
    if "download" in parameters:
        options["download"] = download
    if download:
        Path(root).mkdir(parents=True, exist_ok=True)
    try:
        return known[kind](root=root, **options)
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        text = " ".join(str(error).split())
        where = f"{kind}/{split} is not in {root}"
        raise VlmrankError(f"{where} and cannot be downloaded ({text})" if download else f"{where} ({text})") from error


def torchvision_labels(dataset) -> list[int]:
    """Label of every image, without decoding the images where the dataset allows it."""
    for name in ("targets", "labels", "_labels", "y"):
        values = getattr(dataset, name, None)
        if values is not None and len(values) == len(dataset):
            return [int(value) for value in values]
    for name in ("_samples", "samples", "imgs"):
        values = getattr(dataset, name, None)
        if values and isinstance(values[0], tuple):
            return [int(value[1]) for value in values]
    return [int(dataset[index][1]) for index in range(len(dataset))]


def torchvision_classes(dataset) -> list[str]:
    """Torchvision's class names, with spaces between the words; may be empty."""
    names = getattr(dataset, "classes", None) or []
    names = [name[0] if isinstance(name, (tuple, list)) else name for name in names]
    plain = [str(name).replace("_", " ").replace("/", " ").strip() for name in names]
    numbered = [name.split(" - ", 1)[1] if " - " in name and name[0].isdigit() else name for name in plain]
    return numbered  # MNIST calls its digits "0 - zero"
