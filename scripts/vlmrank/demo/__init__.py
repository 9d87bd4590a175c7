"""A small zoo of trained models and small drawn tasks, to try everything offline.

No other room imports this one: it writes ordinary OpenCLIP folders and image folders. This module holds only names and
imports nothing heavy, so that a workflow can list the files before they exist.
"""

TASKS = (
    "digits",
    "printed_digits",
    "letters",
    "shapes",
    "textures",
    "counting",
    "orientation",
    "colours",
    "faces",
    "sketches",
)
"""Names of the image tasks, in the order of `vlmrank.demo.tasks.TASKS`."""

TARGET = "sketches"
"""The task whose images lie flat without labels; its labelled images are kept in a folder that no sheet names."""

NEVER_TRAINED = ("printed_digits", "sketches")
"""Tasks that no model of the zoo has seen: the truth about them is about generalisation."""

FAMILIES = ("ViT-demo-8", "RN-demo")
"""The two tower families, by the name of the architecture: a vision transformer and a ModifiedResNet."""

VARIANTS = ("broad", "scripts", "geometry", "surface", "scenes")
"""What a model of a family was trained on; the first is the trunk from which the others are fine-tuned."""


def model_names(family: str, variants: int = len(VARIANTS)) -> tuple[str, ...]:
    """The models `<family>--<variant>` that a family trains, trunk first.

    >>> model_names("RN-demo", 2)
    ('RN-demo--broad', 'RN-demo--scripts')
    """
    return tuple(f"{family}--{variant}" for variant in VARIANTS[:variants])
