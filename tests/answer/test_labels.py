"""Lists of labels as people fill them in, and what is wrong with some of them."""

import pandas as pd
import pytest

from vlmrank.answer.labels import DONT_KNOW, Labels, list_to_label, read_labels
from vlmrank.errors import VlmrankError

CLASSES, IMAGES = ["red fox", "cat, big", "=1+1"], ["a.png", "b.png", "c.png", "dir/d, e.png"]


def read(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    return read_labels(path, classes=CLASSES, images=IMAGES)


@pytest.mark.parametrize(
    "text",
    [
        'image,path,label\na.png,x/a.png,red fox\nb.png,,\n"dir/d, e.png",,"cat, big"\nc.png,,I don\'t know\n',
        'image;label;note\r\na.png; Red Fox ;sure\r\n"dir/d, e.png";cat, big;\r\nc.png;?;\r\n',
        "image\tlabel\na.png\tred fox\ndir/d, e.png\tcat, big\nc.png\tI don\N{RIGHT SINGLE QUOTATION MARK}t know\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_lists_are_read_as_people_save_them(tmp_path, text, encoding):
    found = read(tmp_path, text, encoding)
    assert found == Labels({"a.png": 0, "dir/d, e.png": 1}, frozenset({"c.png"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,class\na.png,red fox\n", "no column 'label'; found image, class"),
        ("image,label\na.png,red fax\n", r"line 2: there is no class 'red fax' for a.png. Did you mean 'red fox'"),
        ("image,label\na.pn,red fox\n", r"line 2: the target has no image 'a.pn'. Did you mean 'a.png'"),
        ("image,label\na.png,red fox\na.png,=1+1\n", "line 3: a.png has another label further up"),
        ("", "it is empty"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, text, message):
    with pytest.raises(VlmrankError, match=message):
        read(tmp_path, text)


def test_a_list_that_is_not_there_is_said(tmp_path):
    with pytest.raises(VlmrankError, match="does not exist"):
        read_labels(tmp_path / "none.csv", classes=CLASSES, images=IMAGES)


def test_the_same_label_twice_is_no_mistake(tmp_path):
    assert read(tmp_path, "image,label\na.png,red fox\na.png,RED FOX\n").known == {"a.png": 0}


def test_a_class_called_by_the_sign_for_unknown_is_that_class(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("image,label\na,?\n")
    assert read_labels(path, classes=["?", "!"], images=["a"]).known == {"a": 0}


def test_the_list_keeps_what_is_labelled_and_reads_back(tmp_path):
    labels = Labels({"dir/d, e.png": 1}, frozenset({"c.png"}))
    table = list_to_label(["b.png", "a.png"], labels, paths={"a.png": "x/a.png"}, classes=CLASSES)
    assert table["image"].tolist() == ["c.png", "dir/d, e.png", "b.png", "a.png"]
    assert table["label"].tolist() == [DONT_KNOW, "cat, big", "", ""]
    table.to_csv(tmp_path / "t.csv", index=False)
    assert read_labels(tmp_path / "t.csv", classes=CLASSES, images=IMAGES) == labels
    assert isinstance(table, pd.DataFrame) and table.columns.tolist() == ["image", "path", "label"]
