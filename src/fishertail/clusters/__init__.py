"""Jobs on Grid Engine, PBS and Slurm: the programs that Snakemake calls to submit, watch and cancel them.

Snakemake's cluster-generic executor starts one process a job and poll, so nothing here imports more than the standard
library. Settings come from the main process, which has checked them, in an environment variable.
"""
