# The page: figures, tables, claims and an explorer in one HTML file that needs no network


rule page:
    """Everything in one file: the claims, the explorer, the figures and the tables."""
    input:
        metrics=of_runs("metrics.csv"),
        spectra=of_all_blocks("spectrum.csv"),
        at_minimum=of_runs("at_minimum/spectrum.csv"),
        histograms=of_runs("ax_histograms.parquet"),
        histograms_at_minimum=of_runs("at_minimum/ax_histogram.parquet"),
        outliers=of_runs("outliers.csv"),
        samples=of_runs("outlier_samples.csv"),
        datasets=expand(DATASET, dataset=DATASETS),
        claims="<results>/tables/claims.parquet",
        effects="<results>/tables/claim_effects.parquet",
        stopping_summary="<results>/tables/stopping.parquet",
        trimmed="<results>/tables/trimmed_eigenvalues.parquet",
        runs="<results>/tables/runs.parquet",
        machine="<results>/tables/table1_machine.parquet",
        figures=[path for path in FIGURES if path.endswith(".svg") and "table1" not in path],
    output:
        "<results>/report/index.html",
    log:
        "<logs>/page.log",
    conda:
        "../../envs/conda.yaml"
    params:
        runs=runs_parameters(),
        runs_of_blocks=runs_of_all_blocks(),
        reading=CONFIG.analysis.outlier_reading,
        tables={
            "Runs": "runs",
            "Fig. 6 in full: every run and layer": "trimmed",
            "Table 1: machine and software": "machine",
        },
        configuration=settings.as_yaml(CONFIG),
        code=[code_hash("tables", "stopping", "data.dataset"), folder_hash("page")],
    script:
        "../scripts/page.py"
