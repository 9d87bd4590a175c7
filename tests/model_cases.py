"""What vlmrank makes of models and of single images: rows of the table in `input_cases.py`."""

from __future__ import annotations

import io
import json
from pathlib import Path

from input_table import REFUSED, TAKEN, case
from tiny import TINY, tiny_state, write_tiny

MODELS, IMAGES = "Models", "Single images"


def fetched(architecture: str, pretrained: str | None = None, **options: bool) -> str:
    """The card's reason, or what of the card matters."""
    from vlmrank.models.card import fetch_model

    card = fetch_model("m", architecture, pretrained, offline=True, **options)
    return card["reason"] or f"ok {card['preprocess']['mean']} {'; '.join(card['mismatches'])}"


def with_config(folder: Path, preprocess: dict | None = None, **sections: dict) -> str:
    """A tiny model whose configuration differs in these keys."""
    place = write_tiny(folder / "m", tiny_state())
    model = {**TINY, **{name: {**TINY[name], **value} for name, value in sections.items()}}
    content = {"model_cfg": model, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, **(preprocess or {})}}
    (place / "open_clip_config.json").write_text(json.dumps(content))
    return fetched(f"local-dir:{place}")


def with_weights(folder: Path, change, **options) -> str:
    """A tiny model whose weights file holds something else."""
    import torch

    place = write_tiny(folder / "m", tiny_state())
    (place / "open_clip_model.safetensors").unlink()
    torch.save(change(tiny_state()), place / "open_clip_pytorch_model.bin")
    return fetched(f"local-dir:{place}", **options)


def under(prefix: str, state: dict) -> dict:
    """The same tensors under longer names."""
    return {f"{prefix}{name}": value for name, value in state.items()}


def sheet(folder: Path, text: str) -> str:
    """Look at a models sheet as the dry run does."""
    from vlmrank.workflow.config import read_schema
    from vlmrank.workflow.input_checks import check_inputs
    from vlmrank.workflow.sheets import read_models

    path = folder / "models.tsv"
    path.write_text(f"model\tarchitecture\tpretrained\ttokenizer\n{text}\n", encoding="utf-8")
    rows = read_models(path, read_schema(Path(__file__).parents[1] / "schemas" / "models.schema.yaml"))
    check_inputs(rows, [], models_sheet=path)
    return "models " + ", ".join(row.model for row in rows)


SHEET_ROWS = (
    (
        "A misspelt architecture",
        "a\tViT-B-23\topenai\t",
        "line 2, architecture: OpenCLIP has no 'ViT-B-23'. Did you mean",
    ),
    (
        "A misspelt tag",
        "a\tViT-B-32\topnai\t",
        "line 2, pretrained: ViT-B-32 has no tag 'opnai'. Did you mean 'openai'?",
    ),
    (
        "An architecture without a tag",
        "a\tViT-B-32\t\t",
        "line 2, pretrained: is empty. It has openai, … laion2b_s34b_b79k",
    ),
    (
        "Weights as .ckpt, .npz, .pkl, .onnx",
        "a\tRN50\ta.ckpt\t",
        "a.ckpt is refused: weights are read from .safetensors",
    ),
    (
        "An architecture with a slash (`ViT-B/32`)",
        "a\tViT-B/32\topenai\t",
        "has no 'ViT-B/32'. Did you mean 'ViT-B-32'?",
    ),
    ("A folder as `pretrained`", "a\tViT-B-32\ttests\t", "tests is a folder: write local-dir:tests as architecture"),
    (
        "A path after `hf-hub:`",
        "a\thf-hub:/models/x\t\t",
        "hf-hub:/models/x is no repository of the hub; write local-dir:",
    ),
    ("A path in the column `tokenizer`", "a\tRN50\topenai\t../x", "line 2, tokenizer: … found ../x"),
)
for given, text, words in SHEET_ROWS:
    case(MODELS, given, REFUSED, words)(lambda folder, text=text: sheet(folder, text))

CONFIG_ROWS = (
    (
        "`interpolation: lanczos`",
        {"interpolation": "lanczos"},
        'interpolation is "lanczos"; allowed: "bicubic", "bilinear"',
    ),
    ("`resize_mode: crop`", {"resize_mode": "crop"}, 'is "crop"; allowed: "shortest", "longest", "squash"'),
    ("`std: [0, 0, 0]`", {"std": [0, 0, 0]}, "preprocess_cfg.std is [0, 0, 0]; allowed: … each a number above 0 to 1"),
    ('`mean: "0.5"`', {"mean": "0.5"}, 'preprocess_cfg.mean is "0.5"; allowed: a number from 0 to 1 or a list of 3'),
    ("Mean and std from 0 to 255", {"std": [58.4, 57.1, 57.4]}, "preprocess_cfg.std is [58.4, 57.1, 57.4]; allowed:"),
    ("A key that is not known", {"Mean": [0.5] * 3}, "preprocess_cfg.Mean is refused"),
)
for given, preprocess, words in CONFIG_ROWS:
    case(MODELS, f"A folder's configuration with {given}", REFUSED, words)(
        lambda folder, preprocess=preprocess: with_config(folder, preprocess)
    )


@case(MODELS, "`tokenizer_kwargs: {trust_remote_code: true}`", REFUSED, "trust_remote_code is refused (true)")
def _(folder):
    return with_config(folder, text_cfg={"tokenizer_kwargs": {"trust_remote_code": True}})


@case(
    MODELS, "`vocab_size: 1000` under CLIP's tokenizer", REFUSED, "gives the token 49407, but its text tower knows 1000"
)
def _(folder):
    return with_config(folder, text_cfg={"vocab_size": 1000})


@case(MODELS, "Weights for 32 pixels under a configuration of 64", REFUSED, "these are weights for another image size")
def _(folder):
    return with_config(folder, vision_cfg={"image_size": 64})


@case(MODELS, "Names under `module.`, `model.`, `_orig_mod.` (trainers, `torch.compile`)", TAKEN, "ok [0.5, 0.5, 0.5]")
def _(folder):
    return with_weights(folder, lambda state: {"state_dict": under("module._orig_mod.", state)})


@case(MODELS, "A training state with weights and their average", TAKEN, "ok [0.5, 0.5, 0.5]")
def _(folder):
    return with_weights(folder, lambda state: {"model": state, "model_ema": under("", state), "epoch": 3})


@case(
    MODELS,
    "An average (EMA) alone",
    REFUSED,
    "a moving average of the weights (model_ema) … write ema into the column weights",
)
def _(folder):
    return with_weights(folder, lambda state: {"model_ema": dict(state)})


@case(MODELS, "The same with `ema` in the column weights", TAKEN, "ok [0.5, 0.5, 0.5]")
def _(folder):
    return with_weights(folder, lambda state: {"model_ema": dict(state)}, average=True)


@case(
    MODELS,
    "Weights of another model",
    REFUSED,
    "tensors are missing … are not part of it … names in the file begin with",
)
def _(folder):
    return with_weights(folder, lambda state: under("net.", {"a.b": next(iter(state.values()))}))


@case(MODELS, "A checkpoint of the transformers library", REFUSED, "take the repository's open_clip_model file")
def _(folder):
    return with_weights(folder, lambda state: {**under("text_model.", state), **under("vision_model.", state)})


@case(MODELS, "Quantised weights", REFUSED, "are int8: quantised weights are not read, give the original ones")
def _(folder):
    import torch

    def change(state):
        return {name: value.to(torch.int8) if value.ndim == 2 else value for name, value in state.items()}

    return with_weights(folder, change)


def image(content: bytes) -> str:
    """What comes of an image."""
    from vlmrank.datasets.decode import open_image

    found = open_image(content)
    return f"{found.width} x {found.height}, {found.getpixel((0, 0))}"


def saved(picture, kind: str, **options) -> bytes:
    """A file's bytes."""
    whole = io.BytesIO()
    picture.save(whole, kind, **options)
    return whole.getvalue()


FOREIGN = (
    ("HEIC", b"\0\0\0\x18ftypheic", "it is a HEIC image, as telephones write them: convert it to JPEG or PNG"),
    ("JPEG XL", b"\xff\x0a", "it is a JPEG XL image: convert it to JPEG or PNG"),
    ("SVG", b"<svg></svg>", "it is an SVG drawing: convert it to JPEG or PNG"),
    ("PDF", b"%PDF-1.7", "it is a PDF document: convert it to JPEG or PNG"),
    ("PostScript under any name", b"%!PS-Adobe", "it is a PostScript drawing, which is never opened"),
    (
        "A web page under the name of an image",
        b"<!DOCTYPE html>",
        "it is a web page and not the image: download it again",
    ),
    (
        "A Git LFS pointer",
        b"version https://git-lfs.github.com",
        "it is a Git LFS pointer and not the image: run `git lfs pull`",
    ),
    ("An empty file", b"", "it is empty: copy or download it again"),
)
for given, content, words in FOREIGN:
    case(IMAGES, given, REFUSED, words)(lambda folder, content=content: image(content))


@case(IMAGES, "A PNG or WebP whose EXIF, text or colour profile is broken", TAKEN, "9 x 7, (255, 0, 0)")
def _(folder):
    from PIL import Image

    return image(saved(Image.new("RGB", (9, 7), "red"), "WEBP", lossless=True, exif=b"no EXIF"))


@case(IMAGES, "Greyscale in decimal numbers from 0 to 1", TAKEN, "2 x 1, (128, 128, 128)")
def _(folder):
    import numpy as np
    from PIL import Image

    return image(saved(Image.fromarray(np.array([[0.5, 1.0]], np.float32)), "TIFF"))


@case(
    IMAGES,
    "Greyscale in decimal numbers beyond 1, or in 32-bit integers",
    REFUSED,
    "does not say which of them is white",
)
def _(folder):
    import numpy as np
    from PIL import Image

    return image(saved(Image.fromarray(np.array([[0.5, 1.0001]], np.float32)), "TIFF"))
