# fishertail: dataset -> train -> per_sample_gradients -> fim_eigen -> histograms, tables, MAD curves -> figures
from snakemake.utils import min_version

min_version("9.16")


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/measurements.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/page.smk"
include: "workflow/rules/cluster.smk"


container: "envs/fishertail.sif"  # with --sdm apptainer; make image builds it


report: "workflow/report/workflow.rst"


rule all:
    """Every figure and table of the paper, and the page that shows them, from the grid of config.yaml."""
    default_target: True
    input:
        measured=PLAN.measured_files(),
        figures=[path for each in PLAN.figures.values() for path in PLAN.figure_files(each)],
        tables=[path for each in PLAN.tables.values() for path in PLAN.table_files(each)],
        page="<results>/report/index.html",
