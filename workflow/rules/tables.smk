# Tables over all runs, each as CSV, Parquet, Markdown and LaTeX, and as HTML for the report


rule trimmed_eigenvalue_table:
    """A, B, B solved anew and their decreases, for every run and layer."""
    input:
        trimmed=of_runs("trimmed_eigenvalues.csv"),
        metrics=of_runs("metrics.csv"),
    output:
        report(
            "<results>/tables/trimmed_eigenvalues.html",
            caption="../report/trimmed_eigenvalues.rst",
            category="Tables",
            labels={"table": "Fig. 6 in full: every run and layer"},
        ),
        expand("<results>/tables/trimmed_eigenvalues.{suffix}", suffix=FORMATS),
    log:
        "<logs>/trimmed_eigenvalue_table.log",
    conda:
        "../../envs/conda.yaml"
    params:
        runs=runs_parameters(),
        code=code_hash("tables", "documents"),
    script:
        "../scripts/trimmed_eigenvalue_table.py"


rule run_table:
    """A row a run: the epoch of lowest validation loss and whether it was passed, lambda_1, outliers, convergence."""
    input:
        metrics=of_runs("metrics.csv"),
        spectra=of_all_blocks("spectrum.csv"),
        at_minimum=of_runs("at_minimum/spectrum.csv"),
        outliers=of_runs("outliers.csv"),
    output:
        report(
            "<results>/tables/runs.html",
            caption="../report/runs.rst",
            category="Tables",
            labels={"table": "Runs: lowest validation loss"},
        ),
        expand("<results>/tables/runs.{suffix}", suffix=FORMATS),
    log:
        "<logs>/run_table.log",
    conda:
        "../../envs/conda.yaml"
    params:
        runs=runs_parameters(),
        runs_of_blocks=runs_of_all_blocks(),
        code=code_hash("tables", "documents"),
    script:
        "../scripts/run_table.py"


rule machine_table:
    """Table 1: the machine and the software that trained and analysed."""
    input:
        of_runs("at_minimum/spectrum.csv"),
        of_all_blocks("metrics.csv"),
    output:
        report(
            "<results>/tables/table1_machine.html",
            caption="../report/table1.rst",
            category="Tables",
            labels={"table": "Table 1: machine and software"},
        ),
        expand("<results>/tables/table1_machine.{suffix}", suffix=FORMATS),
    log:
        "<logs>/machine_table.log",
    conda:
        "../../envs/conda.yaml"
    params:
        code=code_hash("tables", "documents"),
    script:
        "../scripts/machine_table.py"
