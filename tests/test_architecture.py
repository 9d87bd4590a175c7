"""What keeps the library easy to find one's way in. `python tests/architecture.py` prints the import graph."""

import re

import architecture
import pytest


def test_every_room_has_its_place_in_the_order():
    assert {architecture.room_of(name) for name in architecture.modules()} <= set(architecture.ROOMS)


def test_no_room_imports_from_above():
    assert architecture.upward() == set()


def test_no_circle():
    assert architecture.circles() == []


def test_files_of_at_most_400_lines():
    long = {
        name
        for name, path in architecture.modules().items()
        if len(path.read_text().splitlines()) > architecture.MAX_LINES_OF_FILE
    }
    assert long == set()


@pytest.mark.parametrize(
    ("measure", "limit"),
    [
        (architecture.lines_of, architecture.MAX_LINES_OF_FUNCTION),
        (architecture.parameters_of, architecture.MAX_PARAMETERS),
    ],
)
def test_functions_are_short_and_take_few_parameters(measure, limit):
    assert {name for name, node in architecture.functions() if measure(node) > limit} == set()


def test_private_names_of_other_packages_stay_in_their_adapter():
    assert architecture.private_names() == set()


def test_pytorch_stays_in_its_rooms():
    importing = {name for name in architecture.modules() if architecture.on_import(name) & architecture.TORCH}
    assert {architecture.room_of(name) for name in importing} == architecture.TORCH_ROOMS
    for name in ("models.registry", "models.registry_names", "models.names", "models.download", "models.hub"):
        assert name not in importing, "the Snakefile and the commands read these"


def test_hdf5_is_opened_and_files_are_locked_or_linked_in_one_room():
    """Elsewhere nobody knows whether the file system has locks and hard links, and nobody looks at checksums."""
    calls = re.compile(r"h5py\.File\(|\bflock\(|\blockf\(|\bos\.link\(|hardlink_to\(|\bO_EXCL\b")
    found = {name for name, path in architecture.modules().items() if calls.search(path.read_text())}
    assert found == {"store.hdf5", "store.leases"}


def test_the_page_names_every_room_and_only_what_there_is():
    page = (architecture.PACKAGE.parents[1] / "docs" / "architecture.md").read_text()
    named = {name.strip("/") for name in re.findall(r"`([a-z_]+(?:/[a-z_0-9]*)?)`", page)}
    known = {name.replace(".", "/") for name in architecture.modules()} | {"report/templates", "scripts/vlmrank"}
    rooms = {architecture.room_of(name) for name in architecture.modules()}
    assert rooms <= named, f"docs/architecture.md lacks {sorted(rooms - named)}"
    assert {name for name in named if "/" in name} <= known


BAD = {
    "errors.py": "from vlmrank.metrics import score\n",
    "metrics.py": "import torch\nimport vlmrank.errors\n\n\ndef score(a, b, c, d, e, f, g, h, i):\n"
    + "    a = b\n" * 60
    + "    return torch._C\n",
    "store/__init__.py": "# long\n" * 401,
}


@pytest.fixture
def bad_house(tmp_path, monkeypatch):
    """A package that breaks every rule."""
    for name, text in BAD.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(architecture, "PACKAGE", tmp_path)
    cached = (architecture.modules, architecture.imports, architecture.arrows, architecture.on_import)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.mark.usefixtures("bad_house")
def test_each_check_sees_what_it_looks_for():
    assert architecture.upward() == {"errors -> metrics"}
    assert architecture.circles() == [{"errors", "metrics"}]
    assert [
        (architecture.lines_of(node), architecture.parameters_of(node)) for _, node in architecture.functions()
    ] == [(62, 9)]
    assert architecture.private_names() == {"metrics: torch._C"}
    assert architecture.on_import("errors") >= {"torch"}
    for check in (
        test_no_room_imports_from_above,
        test_no_circle,
        test_files_of_at_most_400_lines,
        test_private_names_of_other_packages_stay_in_their_adapter,
        test_pytorch_stays_in_its_rooms,
    ):
        with pytest.raises(AssertionError):
            check()


def test_the_import_graph_is_printed(capsys):
    architecture.main()
    told = capsys.readouterr().out
    assert "metrics " in told and "0 upwards, 0 circles" in told
