"""Faults for tests on a scheduler: with this folder on PYTHONPATH, the first word of a model's name says what happens.

Python imports this module at its start. It changes what `vlmrank.jobs.compute_conductance` does before a pair and how
often the executor looks at its jobs (it waits ten seconds longer after each look at which none has ended), and
nothing else.
"""

import asyncio
import importlib.abc
import importlib.machinery
import os
import signal
import sys
import time
from pathlib import Path


def happen(model: str, dataset: str) -> None:
    """Let a pair's fault happen; what needs to happen once leaves a file in the working directory."""
    kind, mark = model.split("--")[0], Path(f"{model}.{dataset}.mark")
    first = not mark.exists()
    mark.touch()
    if dataset == "dogs":
        if kind == "killer":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hungry":
            ballast = bytearray(1_800_000_000)
            ballast[::4096] = b"x" * len(ballast[::4096])
            time.sleep(8)
        if kind == "slow" and first:
            time.sleep(600)
    if kind == "hungry" and dataset == "tools" and first:
        time.sleep(600)  # until it is cancelled
    if kind == "waiting":
        while not Path("go").exists():
            time.sleep(0.2)
    with Path("computed.txt").open("a") as file:
        file.write(f"{model} {dataset}\n")


def before_every_pair(module) -> None:
    """Put `happen` before every pair."""
    compute, task = module.ConductanceStage.compute, module.pair_task
    models = []

    def compute_and_note(self, loaded, work):
        models.append(self.model["model"])
        return compute(self, loaded, work)

    def task_after_fault(dataset, *arguments):
        happen(models[-1], dataset["dataset"])
        return task(dataset, *arguments)

    module.ConductanceStage.compute, module.pair_task = compute_and_note, task_after_fault


def every_other_second(plugin) -> None:
    """Let the executor look at its jobs at a steady pace."""

    async def sleep(self):
        await asyncio.sleep(2)

    plugin.Executor.sleep = sleep


CHANGES = {"vlmrank.jobs.compute_conductance": before_every_pair, "snakemake_executor_plugin_slurm": every_other_second}


class Finder(importlib.abc.MetaPathFinder):
    """Find the modules of `CHANGES` as ever, and change them once they are there."""

    def find_spec(self, name, path=None, target=None):
        if name not in CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            CHANGES[name](module)

        spec.loader.exec_module = execute_and_change
        return spec


sys.meta_path.insert(0, Finder())
