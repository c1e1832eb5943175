# The paper's claims, judged by the results, and its conclusion made usable


rule claims:
    """A verdict on each of the five claims, and every effect with its interval over the seeds."""
    input:
        metrics=of_runs("metrics.csv"),
        spectra=of_all_blocks("spectrum.csv"),
        at_minimum=of_runs("at_minimum/spectrum.csv"),
        ax=of_runs("ax_statistics.csv"),
        trimmed=of_runs("trimmed_eigenvalues.csv"),
        outliers=of_runs("outliers.csv"),
    output:
        report(
            "<results>/tables/claims.html",
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "The five claims"},
        ),
        report(
            "<results>/tables/claim_effects.html",
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "Effects by network"},
        ),
        expand("<results>/tables/{name}.{suffix}", name=["claims", "claim_effects"], suffix=FORMATS),
    log:
        "<logs>/claims.log",
    conda:
        "../../envs/conda.yaml"
    params:
        runs=runs_parameters(),
        runs_of_blocks=runs_of_all_blocks(),
        near_zero=CONFIG.analysis.near_zero,
        fraction=CONFIG.analysis.trimmed_fraction,
        reading=CONFIG.analysis.outlier_reading,
        code=code_hash("claims", "documents"),
    script:
        "../scripts/claims.py"


rule stopping:
    """How near the epoch of lowest validation loss comes that told by the outliers alone, beside other rules."""
    input:
        metrics=of_runs("metrics.csv"),
        outliers=of_runs("outliers.csv"),
    output:
        report(
            "<results>/tables/stopping.html",
            caption="../report/stopping.rst",
            category="Claims",
            labels={"table": "When to stop"},
        ),
        expand("<results>/tables/stopping.{suffix}", suffix=FORMATS),
        expand("<results>/tables/stopping_runs.{suffix}", suffix=FORMATS),
    log:
        "<logs>/stopping.log",
    conda:
        "../../envs/conda.yaml"
    params:
        runs=runs_parameters(),
        reading=CONFIG.analysis.outlier_reading,
        code=code_hash("stopping", "documents"),
    script:
        "../scripts/stopping.py"
