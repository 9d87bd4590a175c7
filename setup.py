"""Pack the workflow into the wheel: `vlmrank/_workflow` holds what a clone of the repository has at its top."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PARTS = (
    *("Snakefile", "config.yaml", "config/openclip.yaml"),
    *("config/*.tsv", "config/openclip/*", "envs/*", "report/*", "rules/*", "schemas/*", "scripts/*.py"),
    *("profiles/default/*", "profiles/slurm/*"),
)


class BuildWithWorkflow(build_py):
    """Build the package, and put the workflow beside its modules."""

    def packed(self) -> dict[Path, Path]:
        """File of the repository -> its place in the build; none where the repository itself is installed."""
        folder = Path(self.build_lib) / "vlmrank" / "_workflow"
        files = (path for part in PARTS for path in sorted(ROOT.glob(part)) if path.is_file())
        return {} if self.editable_mode else {path: folder / path.relative_to(ROOT) for path in files}

    def run(self) -> None:
        super().run()
        for source, place in self.packed().items():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *map(str, self.packed().values())]


setup(cmdclass={"build_py": BuildWithWorkflow})
