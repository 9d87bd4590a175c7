"""What a run says that must not begin: another one is at work in its folder."""

import pytest
from PIL import Image
from workspace import Workspace

from vlmrank.store.leases import Leases

pytestmark = pytest.mark.workflow


def test_a_second_run_is_one_sentence(tmp_path):
    work = Workspace(tmp_path / "work")
    work.write("config/models.tsv", "model\tarchitecture\na\tlocal-dir:zoo\n")
    work.write("zoo/open_clip_config.json", "{}")
    work.write("config/datasets.tsv", "dataset\trole\tpath\nd\tsource\timages\nt\ttarget\timages\n")
    (work.folder / "images").mkdir()
    Image.new("RGB", (8, 8)).save(work.folder / "images/0.png")
    work.configure(results="./elsewhere/")
    with Leases(work.folder / ".snakemake/vlmrank").take("run"):
        done = work.snakemake(profile="profiles/default")
    printed = done.stdout + done.stderr
    assert done.returncode == 1 and "another run is at work here since" in printed
    assert "Traceback" not in printed and "AttributeError" not in printed
    assert not (work.folder / "results").exists() and not (work.folder / "elsewhere/models").exists()
