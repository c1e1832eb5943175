"""Table 1: the machine and the software of the jobs that trained and analysed."""

from fishertail import documents, provenance, tables
from fishertail.jobs import job

with job(snakemake) as this:
    table = tables.machine_table(snakemake.input)
    for path in snakemake.output:
        documents.write_table(table, path, this.provenance(provenance.data_of(snakemake.input)))
