"""The labelling page: one HTML file to label a target's images, which opens offline."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

import vlmrank
from vlmrank.answer.labels import DONT_KNOW
from vlmrank.datasets.decode import read_image
from vlmrank.errors import VlmrankError
from vlmrank.report.payload import safe_json
from vlmrank.text import plural

SIDE = 384  # largest side of a picture, pixels
TEMPLATES = Path(__file__).parent / "templates"


def small_picture(record: Mapping[str, Any], side: int = SIDE) -> str:
    """An image of a dataset's card as a JPEG in a data URI, no side longer than `side`.

    Raises
    ------
    ImageError : the image cannot be read.
    """
    image = read_image(record)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def label_page(
    card: Mapping[str, Any], rows: pd.DataFrame, *, models: Sequence[str], saved_as: str, side: int = SIDE
) -> str:
    """The page as text.

    Parameters
    ----------
    card : of the target, with `dataset`, `classes` and the records of its images.
    rows : columns image, path, label (empty if not given yet), as in `ranking/{target}.to_label.csv`.
    models : names of the models that the labels are to tell apart.
    saved_as : where the next run looks for the labels.
    side : largest side of a picture, pixels.
    """
    records = {str(one["id"]): one for one in [*(card.get("images") or ()), *(card.get("predicted") or ())]}
    images = []
    for row in rows.itertuples():
        entry = {"id": row.image, "path": row.path, "label": row.label, "data": "", "reason": ""}
        try:
            entry["data"] = small_picture(records[row.image], side)
        except KeyError:
            entry["reason"] = "no picture: the target has it no more"
        except VlmrankError as error:
            entry["reason"] = f"no picture: {error}"
        images.append(entry)
    key = hashlib.sha256("\n".join([*card["classes"], *rows["image"]]).encode()).hexdigest()[:16]
    content = {"target": card["dataset"], "classes": list(card["classes"]), "images": images}
    script = (TEMPLATES / "label.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["plural"] = plural
    return environment.get_template("label.html.j2").render(
        target=card["dataset"],
        images=images,
        models=list(models),
        saved_as=saved_as,
        version=vlmrank.__version__,
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=f"'sha256-{digest}'",
        data=safe_json(content | {"unsure": DONT_KNOW, "key": key}),
    )
