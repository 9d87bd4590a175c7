"""Images on disk and the rows that name them."""

import io
import tarfile

from PIL import Image

from vlmrank.datasets.draw import Draw
from vlmrank.datasets.items import DatasetCells
from vlmrank.datasets.prepare import prepare_dataset


def picture(shade=0, size=8):
    """A PNG of one colour."""
    content = io.BytesIO()
    Image.new("RGB", (size, size), (shade % 256, shade // 256, 0)).save(content, "png")
    return content.getvalue()


def put(folder, *names):
    """Write images, each of a colour of its own; return the folder as a sheet names it."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(number))
    return str(folder)


def tar(path, samples, *, extension="png"):
    """Write (key, content, label) samples as a webdataset does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for key, content, label in samples:
            for name, data in ((f"{key}.{extension}", content), (f"{key}.cls", str(label).encode())):
                if label is None and name.endswith(".cls"):
                    continue
                member = tarfile.TarInfo(name)
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return path


def prepared(dataset, role, kind, path, *, cache=None, test="", classes="", domain="", **draw):
    """The card of a row, with the cells and the draw as keywords."""
    cells = DatasetCells(dataset, role, str(path), kind, test, classes, domain)
    return prepare_dataset(cells, Draw(**draw), cache=cache)


def card(path, **options):
    """The card of a row that names `path`."""
    options = {"dataset": "d", "role": "source", "kind": "folder", "path": str(path), **options}
    return prepared(**options)
