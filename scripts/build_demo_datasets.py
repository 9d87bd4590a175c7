"""Draw the demo's image tasks as ordinary image folders."""

from pathlib import Path

from vlmrank.demo.tasks import write_dataset


def main(snakemake) -> None:
    """Write one folder a task: snakemake.output.sheets names the dataset.yaml of each."""
    with Path(snakemake.log[0]).open("w", encoding="utf-8") as log:
        for sheet in snakemake.output.sheets:
            folder = Path(sheet).parent
            labelled = write_dataset(folder.name, folder)
            print(f"{folder.name}: unlabelled images in {folder / 'target'}, labelled images in {labelled}", file=log)


if __name__ == "__main__":
    main(snakemake)  # noqa: F821
