# Every result path reads <results>/<what>/{model}/{dataset}.<kind>: what was computed, for which model, on which dataset.
# {model} and {dataset} are the names in the two sheets; a file without {dataset} gathers all datasets of its model.
# {target} is a dataset of the role target: ranking/{target}.csv and evaluation/ gather all models.
# <results> comes from config.yaml; <logs>/<rule>/ and <benchmarks>/<rule>/ mirror the rules.
from snakemake.utils import min_version

min_version("9.27")


configfile: "config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/demo.smk"
include: "rules/fetch.smk"
include: "rules/conductance.smk"
include: "rules/alignment.smk"
include: "rules/divergence.smk"
include: "rules/accuracy.smk"
include: "rules/ranking.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        expand("<results>/ranking/{target}.csv", target=TARGETS),
        "<results>/report.html",
        rules.check_pairs.output,
