"""The registry is read off OpenCLIP's files as OpenCLIP itself reads it."""

import subprocess
import sys

import open_clip
from open_clip.pretrained import get_pretrained_cfg

from vlmrank.models.registry import list_entries


def test_it_lists_what_open_clip_lists():
    entries = list_entries()
    assert [(entry.architecture, entry.tag) for entry in entries] == open_clip.list_pretrained()
    for entry in entries:
        config = get_pretrained_cfg(entry.architecture, entry.tag)
        assert entry.place == (config.get("hf_hub") or config.get("url") or "")
        quick = bool(open_clip.get_model_config(entry.architecture).get("quick_gelu"))
        assert entry.fits == (bool(config.get("quick_gelu")) == quick), entry


def test_it_takes_no_torch():
    code = "import sys, vlmrank; vlmrank.list_models(); sys.exit('torch' in sys.modules or 'open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
