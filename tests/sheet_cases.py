"""What vlmrank makes of sheets and class files: rows of the table in `input_cases.py`."""

from __future__ import annotations

from dataset_rows import put
from input_table import (
    REFUSED,
    ROWS,
    TAKEN,
    case,
    classes,
    datasets,
    models,
    write,
)

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
