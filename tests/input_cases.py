"""What vlmrank makes of inputs: one table that the tests run over and that docs/inputs.md is written from.

python tests/input_cases.py > docs/inputs.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import model_cases
from dataset_rows import picture, put, tar

from vlmrank.errors import VlmrankError

ROOT = Path(__file__).parent.parent
TAKEN, SAID, REFUSED = "taken", "taken, and said", "refused"


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes
    ----------
    section : heading in the page.
    given : the input in words.
    verdict : taken, said or refused.
    says : what comes of it, or the message; `…` stands for words that differ.
    run : makes the input in a folder and returns what came of it; a VlmrankError is the message.
    """

    section: str
    given: str
    verdict: str
    says: str
    run: Callable[[Path], str]


CASES: list[Case] = []


def case(section: str, given: str, verdict: str, says: str) -> Callable[[Callable[[Path], str]], None]:
    """Put the function into the table."""

    def keep(run: Callable[[Path], str]) -> None:
        CASES.append(Case(section, given, verdict, says, run))

    return keep


def outcome(found: Case, folder: Path) -> str:
    """What vlmrank says; a bad input's message."""
    try:
        return found.run(folder)
    except VlmrankError as error:
        return str(error)


def says(text: str, expected: str) -> bool:
    """Whether the parts of `expected` between `…` are in the text in this order."""
    place = 0
    for part in expected.split("…"):
        place = text.find(part.strip(), place)
        if place < 0:
            return False
        place += len(part.strip())
    return True


# --- helpers: what a user would write --------------------------------------------------------------------------------


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """A file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def schema(name: str) -> dict:
    """A schema of the repository."""
    from vlmrank.workflow.config import read_schema

    return read_schema(ROOT / "schemas" / f"{name}.schema.yaml")


def models(folder: Path, text: str | bytes) -> str:
    """Read a models sheet."""
    from vlmrank.workflow.input_checks import check_inputs
    from vlmrank.workflow.sheets import read_models

    path = write(folder, "models.tsv", text)
    rows = read_models(path, schema("models"))
    check_inputs(rows, [], models_sheet=path)
    return "models " + ", ".join(row.model for row in rows)


def datasets(folder: Path, text: str | bytes) -> str:
    """Read a datasets sheet, whose paths are relative to the folder, and look at what it names."""
    from vlmrank.workflow.input_checks import check_inputs
    from vlmrank.workflow.sheets import read_datasets

    text = text.replace("@", f"{folder}/") if isinstance(text, str) else text
    path = write(folder, "datasets.tsv", text)
    rows = read_datasets(path, schema("datasets"))
    check_inputs([], rows, datasets_sheet=path)
    return "datasets " + ", ".join(row.dataset for row in rows)


def classes(folder: Path, text: str | bytes, name: str = "classes.yaml") -> str:
    """Read a class file."""
    from vlmrank.datasets.prompts import read_prompts

    return "classes " + ", ".join(read_prompts(write(folder, name, text)).classes)


def dataset(path: Path, **row) -> str:
    """Prepare a dataset as the workflow does, and tell what came of it."""
    from dataset_rows import card

    if "classes" in row:
        row["classes"] = str(write(path.parent, "classes.txt", "\n".join(row["classes"])))
    found = card(path, **row)
    if found["status"] != "ok":
        return found["reason"]
    if found.get("no_test"):
        return found["no_test"]
    told = f"{len(found['images'])} images, classes {', '.join(found['classes']) or 'none'}"
    if found["test"]:
        told += ", labels " + ", ".join(f"{item['id']}={item['label']}" for item in found["test"])
    return told + "".join(f"; {note}" for note in found.get("notes", ()))


ROWS = "dataset\trole\tkind\tpath\ttest\tclasses\n"


# --- the sheets ------------------------------------------------------------------------------------------------------

SHEETS = "The two sheets"


@case(SHEETS, "Comments, empty lines, a byte order mark, Windows or old Mac line ends", TAKEN, "models a, b")
def _(folder):
    return models(
        folder, b"\xef\xbb\xbfmodel\tarchitecture\tpretrained\r\n# a\r\n\r\na\tViT-B-32\topenai\rb\tRN50\topenai\r"
    )


@case(SHEETS, "Empty cells at the end of rows or of the header (a spreadsheet's)", TAKEN, "models a")
def _(folder):
    return models(folder, "model\tarchitecture\tpretrained\t\t\na\tViT-B-32\topenai\t\t\n")


@case(SHEETS, "A path with U+2028, a form feed or another odd space", TAKEN, "datasets d")
def _(folder):
    put(folder / "a\u2028b\x0c", "0.png")
    return datasets(folder, f"{ROWS}d\tsource\tfolder\t@a\u2028b\x0c/\t\t\n")


@case(SHEETS, "Spaces for tabs in the header", REFUSED, "the columns are separated by spaces. … put tabs between")
def _(folder):
    return models(folder, "model architecture pretrained\na ViT-B-32 openai\n")


@case(SHEETS, "Spaces for tabs in a row", REFUSED, "line 2: there is no tab: the cells are separated by spaces")
def _(folder):
    return models(folder, "model\tarchitecture\tpretrained\na  ViT-B-32  openai\n")


@case(SHEETS, "Commas or semicolons for tabs", REFUSED, "the columns are separated by semicolons. … tab-separated")
def _(folder):
    return models(folder, "model;architecture\na;ViT-B-32\n")


@case(
    SHEETS, "Cells in quotation marks", REFUSED, 'line 2, pretrained: "openai" is in quotation marks … Take them away'
)
def _(folder):
    return models(folder, 'model\tarchitecture\tpretrained\na\tViT-B-32\t"openai"\n')


@case(SHEETS, "More cells than columns", REFUSED, "line 2: 3 cells under 2 columns (model, architecture)")
def _(folder):
    return models(folder, "model\tarchitecture\na\tViT-B-32\topenai\n")


@case(SHEETS, "An unknown, double or missing column", REFUSED, "column 'architecure': … Did you mean 'architecture'?")
def _(folder):
    return models(folder, "model\tarchitecure\na\tViT-B-32\n")


@case(
    SHEETS, 'Text in UTF-16 (a spreadsheet\'s "Unicode text")', REFUSED, "is text in UTF-16 or UTF-32; save it as UTF-8"
)
def _(folder):
    return models(folder, "model\tarchitecture\na\tViT-B-32\n".encode("utf-16"))


@case(SHEETS, "Text in Latin-1", REFUSED, "line 3: the byte 0xe9 is not UTF-8; save the file as UTF-8")
def _(folder):
    return models(folder, b"model\tarchitecture\na\tViT-B-32\nb\tcaf\xe9\n")


@case(SHEETS, "A NUL character", REFUSED, "line 2: there is a NUL character")
def _(folder):
    return models(folder, "model\tarchitecture\na\tlocal-dir:x\0y\n")


@case(SHEETS, "A name of more than 200 characters", REFUSED, "line 2, model: … at most 200")
def _(folder):
    return models(folder, f"model\tarchitecture\n{'a' * 252}\tViT-B-32\n")


@case(
    SHEETS,
    "Names with `/`, `{}`, `<>`, spaces or a dot first",
    REFUSED,
    "found a{b}<c>, allowed is letters, digits and",
)
def _(folder):
    return models(folder, "model\tarchitecture\na{b}<c>\tViT-B-32\n")


@case(SHEETS, "Two names that differ only in case", REFUSED, "line 3, model: 'vit' is on line 2 already, as 'ViT'")
def _(folder):
    return models(folder, "model\tarchitecture\nViT\tViT-B-32\nvit\tViT-B-16\n")


@case(SHEETS, "A folder whose name is in the other Unicode form (macOS)", TAKEN, "datasets d")
def _(folder):
    put(folder / "cafe\u0301", "0.png")
    return datasets(folder, f"{ROWS}d\tsource\tfolder\t@café\t\t\n")


@case(SHEETS, "A path part of more than 255 bytes", REFUSED, "line 2, path: … File name too long")
def _(folder):
    return datasets(folder, f"{ROWS}d\tsource\tfolder\t@{'a' * 300}\t\t\n")


@case(SHEETS, "A compressed tar file", REFUSED, "line 2, path: … is compressed … unpack it")
def _(folder):
    write(folder, "a.tar.gz", b"\x1f\x8b\x08\x00")
    return datasets(folder, f"{ROWS}d\tsource\twebdataset\t@a.tar.gz\t\t\n")


# --- class names -----------------------------------------------------------------------------------------------------

CLASSES = "Class names and templates"


@case(CLASSES, "`no`, `007`, `1.10` and `null` without quotes", TAKEN, "classes yes, no, 007, null, 1.10, ~, 12:30")
def _(folder):
    return classes(folder, "classes: [yes, no, 007, null, 1.10, ~, 12:30]\n")


@case(CLASSES, "Braces, angle brackets, quotes and any script", TAKEN, 'classes {b}, <c>, "d", 猫, C++')
def _(folder):
    return classes(folder, '{b}\n<c>\n"d"\n猫\nC++\n', "c.txt")


@case(CLASSES, "A text file with Windows line ends and empty lines at its end", TAKEN, "classes cat, dog")
def _(folder):
    return classes(folder, "cat\r\ndog\r\n\r\n", "c.txt")


@case(
    CLASSES,
    "A class with a colon that YAML reads as a key",
    REFUSED,
    "line 2: an entry of `classes` must be a text, not a key 'melanoma'",
)
def _(folder):
    return classes(folder, "classes:\n- melanoma: malignant\n- naevus\n")


@case(CLASSES, "An unknown key", REFUSED, "line 2: there is no such key 'Templates'. Did you mean 'templates'?")
def _(folder):
    return classes(folder, "classes: [cat, dog]\nTemplates: ['a {c}']\n")


@case(CLASSES, "A key twice", REFUSED, "line 2: the key 'classes' is there twice")
def _(folder):
    return classes(folder, "classes: [cat, dog]\nclasses: [a, b]\n")


@case(CLASSES, "A tag that would make an object", REFUSED, "line 1 cannot be read: the tag … is not allowed")
def _(folder):
    return classes(folder, "classes: !!python/object/apply:os.getcwd []\n")


@case(
    CLASSES,
    "A class twice, also in another case or Unicode form",
    REFUSED,
    "the classes 'Circle' and 'circle', which are one text to the models",
)
def _(folder):
    return classes(folder, "classes: [Circle, square, circle]\n")


@case(CLASSES, "A single class", REFUSED, "names one class; at least two are needed")
def _(folder):
    return classes(folder, "classes: [cat]\n")


@case(CLASSES, "A template without `{c}`", REFUSED, "the template 'a photo' has no {c}")
def _(folder):
    return classes(folder, "classes: [cat, dog]\ntemplates: [a photo]\n")


@case(CLASSES, "A class that is empty", REFUSED, "class 1 of 3 is empty")
def _(folder):
    return classes(folder, "classes: [cat, '', dog]\n")


# --- class folders ---------------------------------------------------------------------------------------------------

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


# --- lists -----------------------------------------------------------------------------------------------------------

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


@case(LISTS, "A column twice", REFUSED, "has the column 'label' twice")
def _(folder):
    return listed(folder, "path,label,label\n0.png,cat,dog\n", classes=["cat", "dog"])


# --- tar sets --------------------------------------------------------------------------------------------------------

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


# --- measured accuracy -----------------------------------------------------------------------------------------------

MEASURED = "Labelled images that accuracy is measured on"


def judged(lost: str, labels: dict[str, int]) -> str:
    """What becomes of an accuracy that was measured without the images in `lost`."""
    from vlmrank.accuracy.measured import judge

    card = {"test": [{"id": name, "label": label} for name, label in labels.items()], "classes": ["cat", "dog"]}
    failed = [{"id": name, "reason": "it is a HEIC file"} for name in lost]
    return ": ".join(judge({"status": "ok", "reason": "", "failed_images": failed}, card, max_lost=0.1))


@case(
    MEASURED, "One of 20 images cannot be read", SAID, "ok: left out: 1 of the 20 labelled images; the first: a: it is"
)
def _(folder):
    return judged("a", {name: name > "j" for name in "abcdefghijklmnopqrst"})


@case(
    MEASURED,
    "More than `images.max_lost` of them (0.1)",
    REFUSED,
    "failed: 3 of the 20 labelled images cannot be read (images.max_lost is 0.1)",
)
def _(folder):
    return judged("abc", {name: name > "j" for name in "abcdefghijklmnopqrst"})


@case(MEASURED, "All images of a class", REFUSED, "failed: 1 of the 20 … cannot be read, among them all of dog")
def _(folder):
    return judged("t", {name: name == "t" for name in "abcdefghijklmnopqrst"})


# --- published tables ------------------------------------------------------------------------------------------------

TABLES = "Published tables"


def table(folder: Path, text: str, format: str = "own", name: str = "t.csv", **known) -> str:
    """Read a table for the models a, b (or others) and the datasets x, y."""
    from vlmrank.accuracy.tables import read_tables

    known = {"models": ["a", "b"], "datasets": ["x", "y"], **known}
    found = read_tables([{"path": str(write(folder, name, text)), "format": format}], **known)
    cells = [f"{row.model} on {row.dataset} {row.acc1:g}" for row in found.accuracy.itertuples()]
    return "; ".join(
        [*cells, *(f"{kind} {name}: {why}" for _, kind, name, _, why in found.unmatched.itertuples(index=False))]
    )


def class_table(folder: Path, text: str) -> str:
    """Read a table of accuracies a class."""
    from vlmrank.accuracy.tables import read_classes

    found = read_classes(write(folder, "c.csv", text), models=["a", "b"], datasets=["x", "y"])
    rows = found.accuracy.itertuples()
    cells = [f"{row.model} on {row[3]} of {row.dataset} {row.acc1:g}" for row in rows]
    return "; ".join(
        [*cells, *(f"{kind} {name}: {why}" for _, kind, name, _, why in found.unmatched.itertuples(index=False))]
    )


@case(TABLES, "An empty cell at the end of each row", TAKEN, "a on x 0.5; b on x 0.6")
def _(folder):
    return table(folder, "model,dataset,acc1\na,x,0.5,\nb,x,0.6,\n")


@case(TABLES, "Semicolons or tabs", TAKEN, "a on x 0.5")
def _(folder):
    return table(folder, "model;dataset;acc1\na;x;0.5\n")


@case(TABLES, "Another spelling of the task", TAKEN, "a on x 0.5")
def _(folder):
    return table(folder, "model,dataset,task,acc1\na,x,zero-shot classification,0.5\n")


@case(
    TABLES,
    "Rows of another task or language",
    SAID,
    "a on x 0.5; task zeroshot_retrieval: another task than zero-shot classification; language jp: another",
)
def _(folder):
    rows = "a,x,zeroshot_classification,en,0.5\na,y,zeroshot_retrieval,en,0.4\nb,x,zeroshot_classification,jp,0.5\n"
    return table(folder, f"model,dataset,task,language,acc1\n{rows}")


@case(
    TABLES,
    "Retrieval and multi-label rows without a column `task`",
    SAID,
    "a on x 0.5; dataset flickr30k: its task is not classification … dataset vtab/voc2007_multilabel",
)
def _(folder):
    return table(folder, "model,dataset,acc1\na,x,0.5\na,flickr30k,0.4\na,vtab/voc2007_multilabel,0.3\n")


@case(
    TABLES,
    "A column more than known",
    SAID,
    "a--p on x 0.5; … dataset GMACs: the datasets sheet has no such name … column notes: most of its cells",
)
def _(folder):
    text = "name,pretrained,x,notes,GMACs\na,p,0.5,good,4.4\nb,p,,bad,0.9\n"
    return table(folder, text, "openclip", models=["a--p"])


@case(
    TABLES,
    "Exact zeros of several models on one dataset",
    SAID,
    "m3 on x 0.4; m4 on x 0.5; dataset x: exactly 0 for 3 of 5 models, as where a benchmark failed: taken as unknown",
)
def _(folder):
    rows = "".join(f"m{n},x,{value}\n" for n, value in enumerate((0, 0, 0.0, 0.4, 0.5)))
    return table(folder, f"model,dataset,acc1\n{rows}", models=[f"m{n}" for n in range(5)])


@case(
    TABLES,
    "One value for most models on a dataset",
    SAID,
    "dataset x: 0.25 for 6 of 8 models: is it a measurement? It is taken",
)
def _(folder):
    rows = "".join(f"m{n},x,{value}\n" for n, value in enumerate((*[0.25] * 6, 0.4, 0.5)))
    return table(folder, f"model,dataset,acc1\n{rows}", models=[f"m{n}" for n in range(8)])


@case(
    TABLES,
    "Models and datasets that the sheets do not have",
    SAID,
    "a on x 0.5; model c: the models sheet has no such name",
)
def _(folder):
    return table(folder, "model,dataset,acc1\na,x,0.5\nc,x,0.6\n")


@case(TABLES, "Names `NA`, `null`, `007`, `1e5`", TAKEN, "NA on 007 0.5; null on 1e5 0.6")
def _(folder):
    rows = "NA,007,0.5\nnull,1e5,0.6\n"
    return table(folder, f"model,dataset,acc1\n{rows}", models=["NA", "null"], datasets=["007", "1e5"])


@case(
    TABLES, "More cells than columns", REFUSED, "line 3: 4 cells under 3 columns; quote a cell that holds a separator"
)
def _(folder):
    return table(folder, "model,dataset,acc1\na,x,0.5\nb,x,0.6,0.7\n")


@case(TABLES, "Only rows of other tasks", REFUSED, "no row is left of 1: task 'linear_probe': another task than")
def _(folder):
    return table(folder, "model,dataset,task,acc1\na,x,linear_probe,0.5\n")


@case(TABLES, "Per cent", REFUSED, "line 2, a on x: acc1 is 50, outside 0..1. Divide by 100")
def _(folder):
    return table(folder, "model,dataset,acc1\na,x,50\n")


@case(TABLES, "A decimal comma", REFUSED, "line 2, a on x: acc1 is '0,5', not a number. Write a decimal point")
def _(folder):
    return table(folder, "model;dataset;acc1\na;x;0,5\n")


@case(
    TABLES,
    "A thousands separator",
    REFUSED,
    "n is '1,000', not a number. Write a decimal point and nothing between thousands.",
)
def _(folder):
    return table(folder, 'model,dataset,acc1,n\na,x,0.5,"1,000"\n')


@case(TABLES, "Blanks around column names, 5e-1, a byte order mark", TAKEN, "a on x 0.5")
def _(folder):
    return table(folder, "\ufeffmodel , dataset , acc1 \na , x , 5e-1 \n")


@case(TABLES, "A missing column", REFUSED, "no column acc1 (it has model, dataset, acc). Did you mean 'acc'?")
def _(folder):
    return table(folder, "model,dataset,acc\na,x,0.5\n")


@case(TABLES, "A column twice", REFUSED, "the column 'acc1' is there twice")
def _(folder):
    return table(folder, "model,dataset,acc1,acc1\na,x,0.5,0.6\n")


@case(TABLES, "A row without a model's name", REFUSED, "line 2: the model has no name")
def _(folder):
    return table(folder, "model,dataset,acc1\n,x,0.5\n")


@case(
    TABLES,
    "No accuracy of any model on any source, where none is measured",
    REFUSED,
    "no model of the sheet has an accuracy on a source, and none is measured",
)
def _(folder):
    from vlmrank.accuracy.tables import check_tables

    tables = [{"path": str(write(folder, "t.csv", "model,dataset,acc1\nA,x,0.5\n")), "format": "own"}]
    return str(check_tables(tables, models=["a"], sources=["x"], alone=True))


@case(TABLES, "Per class: surplus names", SAID, "a on cat of x 0.5; model c: the models sheet has no such name")
def _(folder):
    return class_table(folder, "model,dataset,class,acc1,n\na,x,cat,0.5,10\nc,x,cat,0.5,10\n")


@case(TABLES, "Per class: a missing column", REFUSED, "it has no column class, acc1 (it has model, dataset, n)")
def _(folder):
    return class_table(folder, "model,dataset,n\na,x,10\n")


@case(TABLES, "Per class: a value outside 0..1", REFUSED, "line 2, a on cat of x: acc1 is 50, outside 0..1")
def _(folder):
    return class_table(folder, "model,dataset,class,acc1,n\na,x,cat,50,10\n")


@case(TABLES, "Per class: a class twice", REFUSED, "line 3: a on cat of x twice")
def _(folder):
    return class_table(folder, "model,dataset,class,acc1,n\na,x,cat,0.5,10\na,x,cat,0.6,10\n")


# --- configuration ---------------------------------------------------------------------------------------------------

CONFIG = "Configuration and profile"


def configure(folder: Path, text: str) -> str:
    """Read a configuration file as the workflow does."""
    import yaml

    from vlmrank.workflow.config import check_config
    from vlmrank.workflow.paths import normal_paths

    path = write(folder, "my.yaml", text)
    return f"results in {normal_paths(check_config(yaml.safe_load(text), schema('config'), files=[path]))['results']}"


def partitions(folder: Path, runtime: str) -> str:
    """Check a partitions.yaml."""
    from vlmrank.workflow.partitions import check_partitions

    path = write(folder, "partitions.yaml", f"partitions:\n  gpu:\n    max_runtime: {runtime}\n    max_gpu: 1\n")
    return f"{check_partitions(path) or 'taken'}"


@case(
    CONFIG, "An unknown key", REFUSED, "my.yaml: images.per_datset: there is no such key. Did you mean 'per_dataset'?"
)
def _(folder):
    return configure(folder, "images: {per_datset: 8}\n")


@case(CONFIG, "A key twice in a block", REFUSED, "my.yaml, line 3: the key seed is on line 1 already")
def _(folder):
    return configure(folder, "seed: 1\nresults: x\nseed: 2\n")


@case(
    CONFIG,
    "A value of another type (`no`, `1e3`, a date for a text)",
    REFUSED,
    "results: found 2026-11-25, allowed is a text",
)
def _(folder):
    return configure(folder, "results: 2026-11-25\n")


@case(CONFIG, "`{}` or `<>` in a path", REFUSED, "results: 'a{b}' holds '{' '}', which no path here can have")
def _(folder):
    return configure(folder, "results: 'a{b}'\n")


@case(CONFIG, "partitions.yaml: 1-00:00:00, 0-04:00:00, 240, 4h", TAKEN, "taken taken taken taken")
def _(folder):
    return " ".join(partitions(folder, time) for time in ("1-00:00:00", "0-04:00:00", "240", "4h"))


@case(
    CONFIG,
    "partitions.yaml: 30:00",
    REFUSED,
    "line 3: partition gpu: max_runtime is '30:00', which is read in two ways; write days-hours:minutes:seconds",
)
def _(folder):
    return partitions(folder, "30:00")


@case(CONFIG, "partitions.yaml: 4:00:00 without quotes", REFUSED, "max_runtime is '4:00:00', which is read in two ways")
def _(folder):
    return partitions(folder, "4:00:00")


@case(
    CONFIG,
    "partitions.yaml: infinite",
    REFUSED,
    "max_runtime is 'infinite'; leave the line out where there is no limit",
)
def _(folder):
    return partitions(folder, "infinite")


def remarked(models: list[tuple[str, str]], roles: list[str]) -> str:
    """What is said of sheets that hold no mistake."""
    from vlmrank.workflow.sheets import DatasetRow, ModelRow, remarks

    rows = [DatasetRow(f"d{number}", role, "images") for number, role in enumerate(roles)]
    return " ".join(remarks([ModelRow(*model, line=number) for number, model in enumerate(models, 2)], rows))


@case(CONFIG, "A single model", SAID, "There is one model, a: nothing to choose from.")
def _(folder):
    return remarked([("a", "ViT-B-32")], ["source", "target"])


@case(CONFIG, "No target", SAID, "No dataset has the role target: no models are ranked")
def _(folder):
    return remarked([("a", "ViT-B-32"), ("b", "RN50")], ["source"])


@case(
    CONFIG,
    "One model under two names",
    SAID,
    "The models a (line 2) and b (line 3) have one architecture and one pretrained",
)
def _(folder):
    return remarked([("a", "ViT-B-32"), ("b", "ViT-B-32")], ["source", "target"])


def targets(folder: Path, *paths: str) -> str:
    """Look whether a target can be used."""
    from vlmrank.datasets.prepare import check_targets
    from vlmrank.workflow.sheets import DatasetRow

    rows = [DatasetRow(f"d{number}", "target", str(folder / path), line=number) for number, path in enumerate(paths, 2)]
    return str(check_targets(rows) or "one can be used")


@case(
    CONFIG,
    "Targets of which none has a readable image",
    REFUSED,
    "no target can be used, so that nothing would be ranked: … d2 (line 2): none of … d3 (line 3): … holds no image",
)
def _(folder):
    write(folder, "a/photo.jpg", b"\0\0\0\x18ftypheic\0\0\0\0")
    (folder / "b").mkdir()
    return targets(folder, "a", "b").replace("\n", " ")


@case(CONFIG, "Targets of which one can be used", TAKEN, "one can be used")
def _(folder):
    put(folder / "b", "a.png")
    (folder / "a").mkdir()
    return targets(folder, "a", "b")


CASES += [Case(*row) for row in model_cases.ROWS]


# --- the page --------------------------------------------------------------------------------------------------------

HEAD = """# What you can give, and what vlmrank says

Every row here is a test: `tests/test_inputs.py` makes the input and compares what comes. This page is written by
`python tests/input_cases.py > docs/inputs.md`.

What you wrote yourself (configuration, sheets, class files, tables) stops the dry run, with file and line, before
anything is downloaded. What is found inside images, weights and folders is that model's or dataset's row, with the
reason; the others go on. In the messages, … stands for words that differ.

Some mistakes end Snakemake before it reads this workflow, so it speaks for itself: a `--configfile` that is not there
(`No such file or directory`, after a traceback), one that is no YAML, and a `--profile` that is no folder of this name.
"""


def page() -> str:
    """docs/inputs.md."""
    parts = [HEAD]
    for section in dict.fromkeys(found.section for found in CASES):
        rows = [found for found in CASES if found.section == section]
        parts.append(f"\n## {section}\n\n| you give | it is | what comes, or the message |\n|---|---|---|\n")
        for found in rows:
            words = found.says.replace("|", "\\|")
            parts.append(f"| {found.given.replace('|', chr(92) + '|')} | {found.verdict} | `` {words} `` |\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
