# Statistics of a run: histograms of a_x, outliers by MAD, trimmed eigenvalues


rule ax_histogram:
    """Histograms of a_x in fixed bins, for every analysed epoch and layer."""
    input:
        of_blocks("projections.parquet"),
    output:
        f"{RUN}/ax_histograms.parquet",
    log:
        f"<logs>/ax_histogram/{RUN_NAME}.log",
    conda:
        "../../envs/conda.yaml"
    params:
        bins=CONFIG.analysis.histogram.model_dump(),
        code=code_hash("histograms"),
    script:
        "../scripts/ax_histogram.py"


use rule ax_histogram as ax_histogram_at_minimum with:
    input:
        f"{RUN}/at_minimum/projections.parquet",
    output:
        f"{RUN}/at_minimum/ax_histogram.parquet",
    log:
        f"<logs>/ax_histogram_at_minimum/{RUN_NAME}.log",


rule ax_statistics:
    """Share of a_x near 0, largest abs(a_x) and quantiles, for every analysed epoch and layer."""
    input:
        of_blocks("projections.parquet"),
        f"{RUN}/at_minimum/projections.parquet",
    output:
        f"{RUN}/ax_statistics.csv",
    log:
        f"<logs>/ax_statistics/{RUN_NAME}.log",
    conda:
        "../../envs/conda.yaml"
    params:
        near_zero=CONFIG.analysis.near_zero,
        code=code_hash("ax_statistics"),
    script:
        "../scripts/ax_statistics.py"


rule mad_curve:
    """Median, MAD and the number of outliers by both readings, for every epoch and layer."""
    input:
        of_blocks("gradients.parquet"),
    output:
        f"{RUN}/outliers.csv",
    log:
        f"<logs>/mad_curve/{RUN_NAME}.log",
    conda:
        "../../envs/conda.yaml"
    params:
        threshold=CONFIG.analysis.outlier_threshold,
        code=code_hash("mad"),
    script:
        "../scripts/mad_curve.py"


rule outlier_samples:
    """The training samples of largest gradient norm at each analysed epoch, for the page."""
    input:
        dataset=DATASET,
        gradients=of_blocks("gradients.parquet"),
        projections=of_blocks("projections.parquet"),
        at_minimum=f"{RUN}/at_minimum/projections.parquet",
    output:
        f"{RUN}/outlier_samples.csv",
    log:
        f"<logs>/outlier_samples/{RUN_NAME}.log",
    conda:
        "../../envs/conda.yaml"
    params:
        options=lambda wildcards: {
            "layer": CONFIG.architectures[wildcards.model].figure_layer,
            "threshold": CONFIG.analysis.outlier_threshold,
            "reading": CONFIG.analysis.outlier_reading,
        },
        code=code_hash("outlier_samples", "data.dataset"),
    script:
        "../scripts/outlier_samples.py"


rule trimmed_eigenvalues:
    """A, B and B solved anew in every layer, at the epoch of lowest validation loss (Fig. 6)."""
    input:
        dataset=DATASET,
        checkpoints=of_blocks("checkpoints.safetensors"),
        gradients=of_blocks("gradients.parquet"),
        projections=f"{RUN}/at_minimum/projections.parquet",
    output:
        f"{RUN}/trimmed_eigenvalues.csv",
    log:
        f"<logs>/trimmed_eigenvalues/{RUN_NAME}.log",
    benchmark:
        f"<benchmarks>/trimmed_eigenvalues/{RUN_NAME}.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        **MACHINE,
        gpus=1,
        mem_mb=memory(12000),
        runtime=minutes(30),
    params:
        run=run_parameters,
        blocks=lambda wildcards: [list(block.epochs) for block in CONFIG.blocks(run_of(wildcards))],
        fraction=CONFIG.analysis.trimmed_fraction,
        tolerance=CONFIG.analysis.tolerance,
        code=code_hash("analysis", "models", "data.dataset"),
    script:
        "../scripts/trimmed_eigenvalues.py"
