"""What vlmrank makes of labelled images and of published tables: rows of the table in `input_cases.py`."""

from __future__ import annotations

from pathlib import Path

from input_table import (
    REFUSED,
    SAID,
    TAKEN,
    case,
    write,
)

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
