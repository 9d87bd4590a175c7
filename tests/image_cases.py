"""What vlmrank makes of folders, lists and tar sets of images: rows of the table in `input_cases.py`."""

from __future__ import annotations

from pathlib import Path

from dataset_rows import picture, put, tar
from input_table import (
    REFUSED,
    ROWS,
    SAID,
    TAKEN,
    case,
    dataset,
    datasets,
    write,
)

FOLDERS = "Folders of images"


@case(FOLDERS, "A flat folder of images", TAKEN, "2 images, classes none")
def _(folder):
    return dataset(Path(put(folder / "d", "a.png", "b.JPG")), role="target")


@case(FOLDERS, "Folders `a+`, `a-`, `b` under the classes A+, A-, B", TAKEN, "a+/0.png=0, a-/0.png=1, b/0.png=2")
def _(folder):
    return dataset(Path(put(folder / "d", "a+/0.png", "a-/0.png", "b/0.png")), classes=["A+", "A-", "B"])


@case(FOLDERS, "A folder whose name fits several classes if read loosely", REFUSED, "c_ fits none of the 3 class names")
def _(folder):
    return dataset(Path(put(folder / "d", "c_/0.png", "C#/0.png")), classes=["C+", "C-", "C#"])


@case(
    FOLDERS,
    "A folder that is one class by its number and another by its name",
    REFUSED,
    "1_cat is the class 'cat' by its number, '1 cat' by its name",
)
def _(folder):
    return dataset(Path(put(folder / "d", "1_cat/0.png")), classes=["1 cat", "cat"])


@case(FOLDERS, "Two folders of one class", REFUSED, "the folders 000_cat and cat both stand for the class 'cat'")
def _(folder):
    return dataset(Path(put(folder / "d", "000_cat/0.png", "cat/0.png")), classes=["cat", "dog"])


@case(FOLDERS, "Names in another Unicode form than the class file's", TAKEN, "cafe\u0301/0.png=0, tea/0.png=1")
def _(folder):
    return dataset(Path(put(folder / "d", "cafe\u0301/0.png", "tea/0.png")), classes=["café", "tea"])


@case(
    FOLDERS,
    "Folders that a system left (`__MACOSX`, `@eaDir`, hidden ones)",
    SAID,
    "classes cat, dog, … left out: folders of the system: 2 (@eaDir, __MACOSX)",
)
def _(folder):
    names = ("cat/0.png", "dog/0.png", "__MACOSX/0.png", "@eaDir/0.png", ".ipynb_checkpoints/0.png", "cat/@eaDir/1.png")
    return dataset(Path(put(folder / "d", *names)))


@case(
    FOLDERS,
    "A source's class folder that the class file does not have: the source is left out",
    SAID,
    "line 2, path: the class folder … fits no class of … The file has cat, dog. … Until then d is left out.",
)
def _(folder):
    put(folder / "d", "cat/0.png", "zebra/0.png")
    write(folder, "c.txt", "cat\ndog\n")
    return datasets(folder, f"{ROWS}d\tsource\tfolder\t@d\t\t@c.txt\n")


@case(
    FOLDERS,
    "The same among a target's test images: it is ranked without them",
    SAID,
    "line 2, test: the class folder … fits no class of … Until then d is ranked without these labels.",
)
def _(folder):
    put(folder / "d", "0.png")
    put(folder / "e", "zebra/0.png")
    write(folder, "c.txt", "cat\ndog\n")
    return datasets(folder, f"{ROWS}d\ttarget\tfolder\t@d\t@e\t@c.txt\ns\tsource\tfolder\t@d\t\t\n")


@case(FOLDERS, "An empty `__MACOSX` beside class folders", TAKEN, "datasets d")
def _(folder):
    put(folder / "d", "cat/0.png", "dog/0.png")
    (folder / "d" / "__MACOSX").mkdir()
    write(folder, "c.txt", "cat\ndog\n")
    return datasets(folder, f"{ROWS}d\tsource\tfolder\t@d\t\t@c.txt\n")


@case(FOLDERS, "An empty class folder", SAID, "classes cat, dog, … left out: folders without an image: 1 (emu)")
def _(folder):
    (folder / "d" / "emu").mkdir(parents=True)
    return dataset(Path(put(folder / "d", "cat/0.png", "dog/0.png")))


@case(
    FOLDERS,
    "Files that are no images by their names",
    SAID,
    "2 images, … left out: files that are no images by their names: 2 (README, notes.txt)",
)
def _(folder):
    write(folder, "d/notes.txt", "x")
    write(folder, "d/README", "x")
    return dataset(Path(put(folder / "d", "a.png", "b.png")), role="target")


@case(FOLDERS, "A source with one class folder", REFUSED, "all 2 labelled images are of one class (cat)")
def _(folder):
    return dataset(Path(put(folder / "d", "cat/0.png", "cat/1.png")))


@case(
    FOLDERS,
    "A target whose images lie in one folder further down",
    SAID,
    "2 images, classes none; its one folder, photos, is not taken for a class",
)
def _(folder):
    return dataset(Path(put(folder / "d", "photos/0.png", "photos/1.png")), role="target")


@case(
    FOLDERS,
    "The root of `train/` and `val/`",
    REFUSED,
    "holds the splits train, val, not class folders. Name one of them",
)
def _(folder):
    return dataset(Path(put(folder / "d", "train/cat/0.png", "val/cat/0.png")))


@case(
    FOLDERS, "Images and class folders side by side", REFUSED, "holds both images (a.png) and folders with images (cat)"
)
def _(folder):
    return dataset(Path(put(folder / "d", "a.png", "cat/b.png")))


@case(FOLDERS, "Folders `polar_bear` and `Polar bear`", REFUSED, "two class folders of … stand for one class name")
def _(folder):
    return dataset(Path(put(folder / "d", "polar_bear/0.png", "Polar bear/0.png")))


@case(FOLDERS, "Folders 0, 1, ..., 10 under a class file: indices", TAKEN, "0/a.png=0, 1/a.png=1, 10/a.png=10")
def _(folder):
    names = [f"class {letter}" for letter in "abcdefghijk"]
    return dataset(Path(put(folder / "d", "0/a.png", "1/a.png", "10/a.png")), classes=names)


@case(
    FOLDERS,
    "Folders named by codes (`n01440764`)",
    SAID,
    "its class names are codes (n01440764, ...), which mean nothing to a model",
)
def _(folder):
    return dataset(Path(put(folder / "d", "n01440764/a.png", "n01443537/a.png")))


@case(FOLDERS, "Suffixes in capitals", TAKEN, "2 images, classes none")
def _(folder):
    return dataset(Path(put(folder / "d", "a.JPEG", "b.Png")), role="target")


LISTS = "Lists of images"


def listed(folder: Path, text: str, **row) -> str:
    """A dataset of a list beside the images 0.png to 9.png."""
    put(folder, *(f"{number}.png" for number in range(10)))
    return dataset(write(folder, "list.csv", text), kind="csv", **row)


@case(LISTS, "Labels that are class names, or indices", TAKEN, "0.png=1, 1.png=0")
def _(folder):
    return listed(folder, "path,label\n0.png,1\n1.png,0\n", classes=["cat", "dog"])


@case(
    LISTS,
    "Labels 0 to 3 under classes named 3 to 6: indices, decided once for the column",
    TAKEN,
    "0.png=0, 1.png=1, 2.png=2, 3.png=3",
)
def _(folder):
    return listed(folder, "path,label\n0.png,0\n1.png,1\n2.png,2\n3.png,3\n", classes=["3", "4", "5", "6"])


@case(
    LISTS,
    "Labels that fit both ways and differ",
    REFUSED,
    "'1' names class 0 and is the index of '2'. Call the column class_name or class_index",
)
def _(folder):
    return listed(folder, "path,label\n0.png,1\n1.png,2\n", classes=["1", "2", "0"])


@case(LISTS, "The same in a column `class_index` or `class_name`", TAKEN, "0.png=1, 1.png=2")
def _(folder):
    return listed(folder, "path,class_index\n0.png,1\n1.png,2\n", classes=["1", "2", "0"])


@case(LISTS, "A source with an image that has no label", REFUSED, "1 of 3 images has no label (row 2)")
def _(folder):
    return listed(folder, "path,label\n0.png,cat\n1.png,\n2.png,dog\n", classes=["cat", "dog"])


@case(LISTS, "The same as a target: its labels are not needed", TAKEN, "3 images, classes cat, dog")
def _(folder):
    return listed(folder, "path,label\n0.png,cat\n1.png,\n2.png,dog\n", classes=["cat", "dog"], role="target")


@case(LISTS, "An image twice with one label", SAID, "2 images, … left out: rows that repeat an image: 1 (0.png)")
def _(folder):
    return listed(folder, "path,label\n0.png,cat\n1.png,dog\n0.png,cat\n", classes=["cat", "dog"])


@case(
    LISTS,
    "An image with two labels",
    REFUSED,
    "row 3: 0.png is in row 1 already, with another label ('cat', here 'dog')",
)
def _(folder):
    return listed(folder, "path,label\n0.png,cat\n1.png,dog\n0.png,dog\n", classes=["cat", "dog"])


@case(LISTS, "More cells than columns (a comma at the end of each row)", REFUSED, "row 1: 3 cells under 2 columns")
def _(folder):
    return listed(folder, "path,label\n0.png,cat,x\n1.png,dog,x\n", classes=["cat", "dog"])


@case(LISTS, "Semicolons or tabs", TAKEN, "0.png=1, 1.png=0")
def _(folder):
    return listed(folder, "path;label\n0.png;dog\n1.png;cat\n", classes=["cat", "dog"])


@case(
    LISTS,
    "Parquet whose whole numbers were made floats by a missing one",
    REFUSED,
    "1 of 3 images has no label (row 3)",
)
def _(folder):
    import pandas as pd

    put(folder, "0.png", "1.png", "2.png")
    pd.DataFrame({"path": ["0.png", "1.png", "2.png"], "label": [1.0, 0.0, None]}).to_parquet(folder / "l.parquet")
    return dataset(folder / "l.parquet", kind="csv", classes=["cat", "dog"])


@case(
    LISTS,
    "Parquet that holds the images themselves",
    REFUSED,
    "row 1: there is no path but dict data in the column image",
)
def _(folder):
    import pandas as pd

    pd.DataFrame({"image": [{"bytes": picture(), "path": "0.png"}]}).to_parquet(folder / "l.parquet")
    return dataset(folder / "l.parquet", kind="csv")


@case(LISTS, "Indices that begin at 1", REFUSED, "row 2: the label '2' is none of the class names; indices begin at 0")
def _(folder):
    return listed(folder, "path,label\n0.png,1\n1.png,2\n", classes=["cat", "dog"])


@case(LISTS, "Addresses for files", REFUSED, "row 1: https://x.org/0.png is an address; download the images")
def _(folder):
    return listed(folder, "path\nhttps://x.org/0.png\n")


@case(LISTS, "Backslashes in paths", REFUSED, "is written with backslashes; write /")
def _(folder):
    put(folder / "images", "0.png")
    return listed(folder, "path\nimages\\0.png\n")


@case(LISTS, "A byte order mark before a quoted header", TAKEN, "0.png=1, 1.png=0")
def _(folder):
    return listed(folder, '\ufeff"path","label"\n"0.png","dog"\n"1.png","cat"\n', classes=["cat", "dog"])


@case(
    LISTS,
    "A label that is no class of the class file: the dry run stops",
    REFUSED,
    "datasets.tsv, line 2, path: … l.csv, row 2: the label 'zebra' is none of the class names",
)
def _(folder):
    write(folder, "l.csv", "path,label\n0.png,cat\n1.png,zebra\n")
    write(folder, "c.txt", "cat\ndog\n")
    return datasets(folder, f"{ROWS}d\tsource\tcsv\t@l.csv\t\t@c.txt\n")


@case(LISTS, "A column twice", REFUSED, "has the column 'label' twice")
def _(folder):
    return listed(folder, "path,label,label\n0.png,cat,dog\n", classes=["cat", "dog"])


TARS = "Tar sets"


@case(
    TARS,
    "Shards of one name in several folders",
    TAKEN,
    "4 images, … a/0.tar/x=0, a/0.tar/y=1, b/0.tar/x=0, b/0.tar/y=1",
)
def _(folder):
    for name in "ab":
        tar(folder / "sh" / name / "0.tar", [("x", picture(1), 0), ("y", picture(2), 1)])
    return dataset(folder / "sh" / "*" / "0.tar", kind="webdataset", classes=["cat", "dog"])


@case(TARS, "A sample twice", REFUSED, "0.tar holds the sample x twice")
def _(folder):
    path = tar(folder / "0.tar", [("x", picture(1), 0), ("y", picture(2), 1), ("x", picture(3), 1)])
    return dataset(path, kind="webdataset", classes=["cat", "dog"])


@case(
    TARS,
    "Names with a second dot: `scan.1.png`",
    SAID,
    "2 images, … left out: images whose name has a second dot …: 1 (scan.1.png)",
)
def _(folder):
    path = tar(folder / "0.tar", [("x", picture(1), 0), ("y", picture(2), 1), ("scan.1", picture(3), None)])
    return dataset(path, kind="webdataset", classes=["cat", "dog"])


@case(TARS, "Empty lines at the end of classnames.txt", TAKEN, "classes cat, dog")
def _(folder):
    tar(folder / "s" / "test" / "0.tar", [("x", picture(1), 0), ("y", picture(2), 1)])
    write(folder, "s/classnames.txt", "cat\ndog\n\n")
    return dataset(folder / "s", kind="webdataset")


@case(TARS, "An empty line inside it", REFUSED, "classnames.txt, line 2 is empty")
def _(folder):
    tar(folder / "s" / "test" / "0.tar", [("x", picture(1), 0), ("y", picture(2), 1)])
    write(folder, "s/classnames.txt", "cat\n\ndog\n")
    return dataset(folder / "s", kind="webdataset")


@case(TARS, "A compressed tar file under the name .tar", REFUSED, "is compressed with gzip; … unpack it")
def _(folder):
    import gzip

    path = tar(folder / "0.tar", [("x", picture(1), 0)])
    path.write_bytes(gzip.compress(path.read_bytes()))
    return dataset(path, kind="webdataset")


@case(TARS, "A sample's members apart from each other", TAKEN, "x=0, y=1")
def _(folder):
    path = tar(folder / "0.tar", [("x", picture(1), None), ("y", picture(2), None)])
    import io
    import tarfile

    with tarfile.open(path, "a") as file:
        for name, label in (("x.cls", b"0"), ("y.cls", b"1")):
            member = tarfile.TarInfo(name)
            member.size = 1
            file.addfile(member, io.BytesIO(label))
    return dataset(path, kind="webdataset", classes=["cat", "dog"])


@case(TARS, "Dots in a folder's name, and macOS's `._` files", TAKEN, "2 images, … train.v1/x=0, train.v1/y=1")
def _(folder):
    samples = [(f"train.v1/{key}", picture(n), n) for n, key in enumerate("xy")]
    path = tar(folder / "0.tar", [*samples, ("train.v1/._x", picture(3), 1)])
    return dataset(path, kind="webdataset", classes=["cat", "dog"])


@case(TARS, "Templates in the class file and beside the tars: the class file's", TAKEN, "a {c}.")
def _(folder):
    from dataset_rows import card

    tar(folder / "s" / "test" / "0.tar", [("x", picture(1), 0), ("y", picture(2), 1)])
    write(folder, "s/zeroshot_classification_templates.txt", "the {c}\n")
    file = write(folder, "c.yaml", "classes: [cat, dog]\ntemplates: ['a {c}.']\n")
    return " ".join(card(folder / "s", kind="webdataset", classes=str(file))["templates"])
