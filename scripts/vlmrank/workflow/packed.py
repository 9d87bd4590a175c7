"""Sources that come from packs: their rows of the datasets sheet, and the packs of each model."""

from __future__ import annotations

from collections.abc import Sequence

from vlmrank.store.packs import PACKED_KIND, Pack, first_cards
from vlmrank.workflow.sheets import DatasetRow, ModelRow


def rows_of(packs: Sequence[Pack]) -> list[DatasetRow]:
    """A row for each source of the packs."""
    return [
        DatasetRow(name, "source", str(pack.path), PACKED_KIND, domain=card["domain"], group=pack.groups.get(name, ""))
        for name, (pack, card) in first_cards(packs).items()
    ]


def packs_for(row: ModelRow, packs: Sequence[Pack]) -> list[str]:
    """The files of the packs of a row's model, found by its name or by its architecture and tag."""

    def fits(pack: Pack) -> bool:
        tag = (row.architecture, row.pretrained)
        return pack.model["model"] == row.model or (
            row.folder is None and tag == (pack.model["architecture"], pack.model["pretrained"])
        )

    return [str(pack.path) for pack in packs if fits(pack)]
