"""Verdicts on the paper's claims, and the effects behind them."""

from fishertail import claims, documents, provenance, tables
from fishertail.jobs import job

with job(snakemake) as this:
    options = snakemake.params
    measured = tables.of_the_claims(snakemake.input, options.runs, options.runs_of_blocks)
    settings = {name: options[name] for name in ("near_zero", "fraction", "reading")}
    results = claims.Results(**measured, **settings)
    effects = claims.effects_table(results)
    written = {"claims": claims.verdicts_table(effects), "claim_effects": effects}
    documents.write_tables(written, snakemake.output, this.provenance(provenance.data_of(snakemake.input.metrics)))
