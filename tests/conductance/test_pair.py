import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import nn

from vlmrank.alignment import align_blocks, block_prior
from vlmrank.conductance.options import ConductanceOptions
from vlmrank.conductance.pair import PairTask, compute_pairs
from vlmrank.divergence import directional_conductance_divergence
from vlmrank.errors import VlmrankError
from vlmrank.representation import represent
from vlmrank.store import PAIR_ATTRIBUTES, read_pair, write_pair

torch.set_num_threads(1)
BENCH = Path(os.environ.get("VLMRANK_BENCHZOO", "benchzoo"))
CLASSES = ("cat", "dog", "ship")


def load(name: str):
    folder = BENCH / "models" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder.resolve()}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder.resolve()}")
    return SimpleNamespace(
        model=model.eval(), tokenizer=tokenizer, preprocess=preprocess, visual=model.visual, card={"model": name}
    )


def bench_task(dataset: str, count: int) -> PairTask:
    paths = sorted((BENCH / "datasets" / dataset / "target").iterdir())[:count]
    images = [Image.open(path).convert("RGB") for path in paths]
    return PairTask(dataset, images, [path.name for path in paths], classes=CLASSES)


def preprocess(image):
    values = torch.from_numpy(np.array(image.resize((32, 32)))).permute(2, 0, 1) / 255
    return (values - 0.5) / 0.25


@pytest.fixture
def tiny():
    """A loaded model with random weights."""
    torch.manual_seed(0)
    vision = {"image_size": 32, "patch_size": 8, "width": 24, "layers": 3, "head_width": 12}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CLIP(16, vision, text).eval()
    tokenizer = open_clip.SimpleTokenizer(context_length=8)
    card = {"model": "tiny--none", "architecture": "tiny", "weights_sha256": "0" * 64}
    return SimpleNamespace(model=model, tokenizer=tokenizer, preprocess=preprocess, visual=model.visual, card=card)


def pictures(count=3):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(count)]


def task(dataset="noise", count=3, **changes):
    return replace(PairTask(dataset, pictures(count), [f"{k}.png" for k in range(count)], CLASSES), **changes)


def only(loaded, one, **options):
    (pair,) = compute_pairs(loaded, [one], ConductanceOptions(**options))
    return pair


@pytest.mark.parametrize(("name", "gap"), [("ViT-s-16--corpus0", 0.01), ("RN-s--corpus0", 0.02)])
def test_pairs_of_the_bench_are_complete(name, gap):
    pair = only(load(name), bench_task("cifar10", 2))
    assert pair.ok, pair.attributes["reason"]
    np.testing.assert_allclose(pair.delta / (pair.score[:, :1] - pair.score[:, 1:]), 0, atol=gap)


def test_a_pair_holds_what_the_contract_asks_for(tiny, tmp_path):
    pair = only(tiny, task())
    assert pair.ok, pair.attributes["reason"]
    assert list(pair.blocks) == [f"visual.transformer.resblocks.{b}" for b in range(3)]
    assert {values.shape for values in pair.blocks.values()} == {(3, 24)}
    assert pair.score.shape == (3, 2) and pair.delta.shape == (3, 3) and len(pair.alphas) == 9
    np.testing.assert_allclose(pair.logits.max(1), pair.score[:, 0], rtol=1e-4)
    np.testing.assert_array_equal(pair.logits.argmax(1), pair.pseudo_label)
    np.testing.assert_allclose(np.linalg.norm(pair.embedding, axis=1), 1, rtol=1e-5)
    assert pair.class_embedding.shape == (3, 16)
    assert set(PAIR_ATTRIBUTES) <= set(pair.attributes)
    assert pair.attributes["quadrature"] == "arc-length clenshaw-curtis, 8 steps"
    write_pair(tmp_path / "pair.h5", pair)
    np.testing.assert_allclose(read_pair(tmp_path / "pair.h5").score, pair.score, rtol=0, atol=0)


def test_score_is_the_models_own_zero_shot_logit(tiny):
    pair = only(tiny, task())
    with torch.no_grad():
        text = tiny.model.encode_text(tiny.tokenizer([f"a photo of a {c}." for c in CLASSES]), normalize=True)
        image = tiny.model.encode_image(torch.stack([preprocess(p) for p in pictures()]), normalize=True)
        black = preprocess(Image.new("RGB", (32, 32)))[None]
        logits = tiny.model.logit_scale.exp() * image @ text.T
        start = tiny.model.logit_scale.exp() * tiny.model.encode_image(black, normalize=True) @ text.T
    np.testing.assert_allclose(pair.score[:, 0], logits.max(1).values, rtol=1e-4)
    np.testing.assert_allclose(pair.score[:, 1], start[0, logits.argmax(1)], rtol=1e-4)


def test_without_classes_the_objective_is_the_images_own_embedding(tiny):
    pair = only(tiny, task(classes=()))
    assert pair.ok and pair.attributes["objective"] == "embedding"
    assert pair.pseudo_label.tolist() == [-1] * 3 and pair.logits is None
    np.testing.assert_allclose(pair.score[:, 0], 1, rtol=1e-5)


@pytest.mark.parametrize("baseline", ["black", "mean", "blur"])
def test_every_baseline_is_complete(tiny, baseline):
    pair = only(tiny, task(), baseline=baseline)
    assert pair.ok
    np.testing.assert_allclose(pair.delta, 0, atol=2e-3 * np.abs(pair.score).max())


def test_one_failed_pair_takes_no_other_down(tiny):
    bad = task("bad", images=torch.full((3, 3, 32, 32), torch.nan))
    pairs = list(compute_pairs(tiny, [bad, task("good")], ConductanceOptions(points=4)))
    assert [pair.ok for pair in pairs] == [False, True]
    assert "resblocks.0: output or gradient is not finite" in pairs[0].attributes["reason"]
    assert pairs[0].attributes["dataset"] == "bad" and not pairs[0].blocks


def test_images_that_cannot_be_used_are_left_out_with_their_reason(tiny, tmp_path):
    pictures(1)[0].save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:500])
    images = [*pictures(2), Image.open(tmp_path / "cut.png")]
    pair = only(tiny, task(images=images, failed_images={"z": "empty file"}), points=4)
    assert pair.ok and list(pair.image_id) == ["0.png", "1.png"] and set(pair.failed_images) == {"z", "2.png"}
    assert "cannot be decoded" in pair.failed_images["2.png"]
    tensor = torch.stack([preprocess(p) for p in pictures()])
    tensor[1] = torch.inf
    pair = only(tiny, task(images=tensor), points=4)
    assert pair.ok and list(pair.image_id) == ["0.png", "2.png"] and "not finite" in pair.failed_images["1.png"]
    alone = only(tiny, task(count=1, images=tensor[2:], image_ids=["2.png"]), points=4, nodes="uniform")
    beside = only(tiny, task(images=tensor), points=4, nodes="uniform")
    for path, values in alone.blocks.items():
        np.testing.assert_allclose(beside.blocks[path][1], values[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"baseline": "white"}, "baseline 'white' is none of"),
        ({"precision": "int8"}, "precision 'int8' is none of"),
        ({"objective": "loss"}, "objective 'loss' is none of"),
        ({"points": 0}, "at least 1 step"),
        ({"rule": "simpson"}, "rule 'simpson' is none of"),
        ({"engine": "captum", "tolerance": 0.1}, "set tolerance to null"),
    ],
)
def test_wrong_options_are_a_reason_not_an_exception(tiny, options, reason):
    pair = only(tiny, task(), **options)
    assert not pair.ok and reason in pair.attributes["reason"]


def test_no_image_and_a_wrong_number_of_names_are_reasons(tiny):
    assert "no image" in only(tiny, task(images=[], image_ids=[])).attributes["reason"]
    assert "3 images but 1 identifiers" in only(tiny, task(image_ids=["a"])).attributes["reason"]


def test_out_of_memory_with_one_sample_is_a_reason(tiny, monkeypatch):
    def forward(*_args, **_kwargs):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")

    blocks = tiny.visual.transformer.resblocks
    monkeypatch.setattr(blocks[2], "forward", forward)
    handed = list(compute_pairs(tiny, [task("a")], ConductanceOptions(points=2)))
    assert not handed[0].ok and "memory" in handed[0].attributes["reason"]


def test_conductance_of_zero_is_a_reason_and_no_result(tiny):
    with torch.no_grad():
        tiny.visual.proj.zero_()  # every gradient vanishes
    pair = only(tiny, task())
    assert not pair.ok and "its conductance is zero in every block" in pair.attributes["reason"]


@pytest.mark.parametrize(("baseline", "colour"), [("black", "black"), ("blur", "white")])
def test_an_image_that_is_the_baseline_is_left_out(tiny, baseline, colour):
    pair = only(tiny, task(images=[Image.new("RGB", (40, 50), colour), *pictures(2)]), baseline=baseline)
    assert pair.ok and list(pair.image_id) == ["1.png", "2.png"]
    assert "zero in every block" in pair.failed_images["0.png"]


def test_captums_engine_writes_the_same_numbers(tiny):
    captum = only(tiny, task(), engine="captum", points=8, precision="float64")
    ours = only(tiny, task(), rule="left", nodes="uniform", points=8, precision="float64")
    assert captum.ok and captum.attributes["quadrature"] == "uniform left, 8 steps"
    for path, values in ours.blocks.items():
        np.testing.assert_allclose(captum.blocks[path], values, rtol=0, atol=1e-6)


def test_batch_is_no_part_of_the_result(tiny):
    whole, part = only(tiny, task()), only(tiny, task(), batch=3)
    for path, values in whole.blocks.items():
        np.testing.assert_allclose(part.blocks[path], values, rtol=0, atol=2e-5 * np.abs(values).max())


def test_a_pair_has_the_same_bytes_whatever_its_process_computed_before(tiny):
    alone = only(tiny, task(count=12))
    _, second = compute_pairs(tiny, [task("other", 5), task(count=12)], ConductanceOptions())
    for path, values in alone.blocks.items():
        np.testing.assert_array_equal(second.blocks[path], values)


@pytest.mark.parametrize("baseline", ["black", "blur"])
def test_an_image_has_the_same_result_whatever_its_neighbours(tiny, baseline):
    bright = [Image.linear_gradient("L").convert("RGB"), *pictures(3)[1:]]
    options = {"precision": "float64", "points": 6, "baseline": baseline}
    together = only(tiny, task(images=bright), **options)
    for k in range(3):
        alone = only(tiny, task(images=bright[k : k + 1], image_ids=[f"{k}.png"]), **options)
        np.testing.assert_allclose(alone.alphas, together.alphas, rtol=0, atol=0)
        for path, values in together.blocks.items():
            np.testing.assert_allclose(alone.blocks[path][0], values[k], rtol=1e-6)


def test_further_images_are_predicted_and_not_attributed(tiny):
    further = [*zip(("x.png", "y.png"), pictures(2), strict=True), ("z.png", VlmrankError("it is gone"))]
    pair = only(tiny, task(further=iter(further)))
    assert pair.ok and list(pair.image_id) == ["0.png", "1.png", "2.png"]
    assert list(pair.predicted_id) == ["0.png", "1.png", "2.png", "x.png", "y.png"]
    assert pair.logits.shape == (5, 3) and pair.embedding.shape == (5, 16) and len(pair.score) == 3
    np.testing.assert_allclose(pair.logits[3:], pair.logits[:2], rtol=1e-5)  # the same pictures
    np.testing.assert_allclose(np.linalg.norm(pair.embedding, axis=1), 1, rtol=1e-5)
    assert pair.failed_images == {"z.png": "it is gone"}


def test_an_image_without_conductance_is_predicted_all_the_same(tiny, tmp_path):
    pair = only(tiny, task(images=[Image.new("RGB", (40, 50)), *pictures(2)]))
    assert list(pair.image_id) == ["1.png", "2.png"] and list(pair.predicted_id) == ["0.png", "1.png", "2.png"]
    write_pair(tmp_path / "pair.h5", pair)
    read = read_pair(tmp_path / "pair.h5")
    assert read.predicted_id == ("0.png", "1.png", "2.png") and read.logits.shape == (3, 3)


def test_batch_and_threads_change_the_divergence_by_rounding_alone(tiny):
    """docs/output.md, "Reproducibility": DCD to 1e-4 of its largest value, and bitwise with nothing changed."""
    rng = np.random.default_rng(1)
    noise = [[Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(5)] for _ in range(4)]

    def dcd(threads=1, **options):
        torch.set_num_threads(threads)
        try:
            tasks = [task(str(d), 5, images=images) for d, images in enumerate(noise)]
            pairs = list(compute_pairs(tiny, tasks, ConductanceOptions(points=6, **options)))
        finally:
            torch.set_num_threads(1)
        found = [represent(list(pair.blocks.values())) for pair in pairs]
        prior = block_prior(np.stack([one.block_profile for one in found]), depth=3.0)
        weights = np.stack([align_blocks(one.block_mass, prior).importance for one in found])
        return directional_conductance_divergence(found, weights, rank=2).dcd

    once = dcd()
    np.testing.assert_array_equal(dcd(), once)
    for changed in ({"batch": 1}, {"batch": 5}, {"batch": 64}, {"threads": 2}):
        np.testing.assert_allclose(dcd(**changed), once, rtol=0, atol=1e-4 * once.max())


def test_tolerance_refines_each_image(tiny):
    pair = only(tiny, task(), points=2, tolerance=1e-3, max_points=64)
    assert pair.ok and pair.error.shape == (3,) and (pair.error < 1e-3).all() and len(pair.alphas) > 3
    fine = only(tiny, task(), points=64)
    for path, values in fine.blocks.items():
        assert np.linalg.norm(pair.blocks[path] - values) < 1e-3 * np.linalg.norm(values)
    assert np.isnan(fine.error).all()


def test_precision_is_an_option_and_leaves_no_trace(tiny):
    exact = only(tiny, task(), precision="float64")
    for precision, gap in (("float32", 1e-4), ("tf32", 1e-4), ("bfloat16", 0.1)):
        pair = only(tiny, task(), precision=precision)
        for path, values in exact.blocks.items():
            assert np.linalg.norm(pair.blocks[path] - values) < gap * np.linalg.norm(values), (precision, path)
    assert not torch.is_autocast_enabled("cpu") and not torch.backends.cuda.matmul.allow_tf32


def test_blocks_that_only_look_piecewise_linear_fall_back(tiny, caplog):
    class Curved(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.act, self.second = nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1)

        def forward(self, x):
            y = self.second(self.act(self.first(x)))
            return x + y * torch.cos(4 * y)  # no module of its own

    class Visual(nn.Module):
        def __init__(self):
            super().__init__()
            self.image_size = 32
            self.stem, self.blocks = nn.Conv2d(3, 8, 4, 4), nn.Sequential(Curved(), Curved(), Curved())
            self.head = nn.Linear(8, 16)

        def forward(self, x):
            return self.head(self.blocks(self.stem(x)).mean((2, 3)))

    torch.manual_seed(0)
    tiny.model.visual = tiny.visual = Visual()
    pair = only(tiny, task(classes=()))
    assert pair.ok, pair.attributes["reason"]
    assert len(pair.blocks) == 3 and "clenshaw-curtis" in pair.attributes["quadrature"]
    assert "clenshaw-curtis instead" in caplog.text


@pytest.mark.parametrize(("threads", "batch"), [(2, "auto"), (1, 1)])
def test_threads_and_batch_move_the_last_digits_alone(tiny, threads, batch):
    """docs/output.md, "Reproducibility": 4e-6 of a block's largest value, 1e-4 of the largest divergence."""

    def computed(threads, batch):
        torch.set_num_threads(threads)
        try:
            both = [task("a", 4), replace(task("b", 4), images=pictures(8)[4:])]
            return list(compute_pairs(tiny, both, ConductanceOptions(points=6, batch=batch)))
        finally:
            torch.set_num_threads(1)

    divergences = []
    plain, other = computed(1, "auto"), computed(threads, batch)
    for ours, theirs in zip(plain, other, strict=True):
        for name, values in ours.blocks.items():
            np.testing.assert_allclose(theirs.blocks[name], values, rtol=0, atol=4e-6 * np.abs(values).max())
    for found in (plain, other):
        tasks = [represent(list(pair.blocks.values())) for pair in found]
        even = np.full((2, len(plain[0].blocks)), 1 / len(plain[0].blocks))
        divergences.append(directional_conductance_divergence(tasks, even, rank=2).dcd)
    np.testing.assert_allclose(*divergences, rtol=0, atol=1e-4 * divergences[0].max())
    assert divergences[0].max() > 0
