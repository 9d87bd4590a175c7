"""The page on which images are labelled: whole, escaped, and it reads back."""

import csv
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import synthetic
from PIL import Image

from vlmrank import store
from vlmrank.report.build import build_report
from vlmrank.report.label_page import label_page

HOSTILE = '<script>alert("x")</script>'


def card(tmp_path, classes=("cat", HOSTILE, "=cmd,1")):
    records = []
    for index in range(3):
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.full((40, 900, 3), 60 * index, np.uint8)).save(path)
        records.append({"id": f"{index}.png", "path": str(path)})
    records[2]["path"] = str(tmp_path / "gone.png")
    return {"dataset": "wild", "classes": list(classes), "images": records[:1], "predicted": records[1:]}


def rows():
    return pd.DataFrame({"image": ["0.png", "1.png", "2.png"], "path": "p", "label": ["cat", "", ""]})


def page(tmp_path):
    return label_page(card(tmp_path), rows(), models=["a", HOSTILE], saved_as="labels/wild.csv", side=64)


def test_nothing_comes_from_elsewhere_and_nothing_is_markup(tmp_path):
    text = page(tmp_path)
    assert HOSTILE not in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "default-src 'none'" in text
    assert text.count("<script") == 2


def test_the_data_hold_pictures_labels_and_reasons(tmp_path):
    found = json.loads(re.search(r'id="data">(.*?)</script>', page(tmp_path), re.S).group(1))
    assert found["classes"] == ["cat", HOSTILE, "=cmd,1"]
    assert [one["label"] for one in found["images"]] == ["cat", "", ""]
    assert all(one["data"].startswith("data:image/jpeg;base64,") for one in found["images"][:2])
    assert found["images"][2]["reason"].startswith("no picture")


def test_the_report_says_which_labels_were_used_and_which_would_decide(tmp_path):
    results = synthetic.write_results(tmp_path / "results", models=8, datasets=5)
    path = next((results / "ranking").glob("*.answer.json"))
    facts = store.read_json(path)
    text = build_report(results, tmp_path / "a.html").read_text(encoding="utf-8")
    assert "The ranking used no label of the task." in text
    assert "Near ties." not in text
    ties = [{"model": facts["model"], "p_best": 0.6}, {"model": "<b>other</b>", "p_best": 0.35}]
    store.write_json(path, facts | {"labels": 23, "to_label": 24, "near_ties": ties})
    text = build_report(results, tmp_path / "b.html").read_text(encoding="utf-8")
    assert "The ranking used 23 labels of the task." in text
    assert "2 models could be the best" in text and "Labels of 24 images would tell them apart" in text
    assert "<b>other</b>" not in text


@pytest.mark.browser
def test_labels_are_given_by_key_and_button_and_saved(browser, tmp_path):
    (tmp_path / "label.html").write_text(page(tmp_path), encoding="utf-8")
    tab = browser.new_page(accept_downloads=True)
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.goto((tmp_path / "label.html").as_uri())
    assert "2 of 3" in tab.inner_text("#caption")
    tab.keyboard.press("2")
    tab.click("#unsure")
    tab.keyboard.press("ArrowLeft")
    assert tab.get_attribute("#classes button >> nth=1", "aria-pressed") == "true"
    with tab.expect_download() as waited:
        tab.click("#save")
    assert waited.value.suggested_filename == "wild.csv"
    waited.value.save_as(tmp_path / "saved.csv")
    tab.close()
    assert errors == []
    found = list(csv.reader(io.StringIO((tmp_path / "saved.csv").read_text(encoding="utf-8"))))
    assert found == [
        ["image", "path", "label"],
        ["0.png", "p", "cat"],
        ["1.png", "p", HOSTILE],
        ["2.png", "p", "I don't know"],
    ]
