# The paper's figures: each as SVG and PDF, with the table behind it as CSV


rule fig1_validation_accuracy:
    """Fig. 1: validation accuracy over epochs."""
    input:
        of_runs("metrics.csv"),
    output:
        svg=report(
            "<results>/figures/fig1_validation_accuracy.svg",
            caption="../report/fig1.rst",
            category="Figures",
            labels={"figure": "Fig. 1: validation accuracy"},
        ),
        pdf="<results>/figures/fig1_validation_accuracy.pdf",
        csv="<results>/figures/fig1_validation_accuracy.csv",
    log:
        "<logs>/figures/fig1_validation_accuracy.log",
    conda:
        "../../envs/conda.yaml"
    params:
        runs=runs_parameters(),
        code=code_hash("figures", "tables"),
    script:
        "../scripts/fig1_validation_accuracy.py"


rule fig2_3_ax_over_epochs:
    """Fig. 2 (CIFAR-10) and 3 (MNIST): the distribution of a_x at each epoch, at the smallest batch size."""
    input:
        histograms=lambda wildcards: of_runs("ax_histograms.parquet", wildcards.dataset),
        metrics=lambda wildcards: of_runs("metrics.csv", wildcards.dataset),
    output:
        svg=report(
            "<results>/figures/fig{number}_ax_over_epochs_{dataset}.svg",
            caption="../report/fig2_3.rst",
            category="Figures",
            labels={"figure": "Fig. {number}: a_x over epochs, {dataset}"},
        ),
        pdf="<results>/figures/fig{number}_ax_over_epochs_{dataset}.pdf",
        csv="<results>/figures/fig{number}_ax_over_epochs_{dataset}.csv",
    log:
        "<logs>/figures/fig{number}_ax_over_epochs_{dataset}.log",
    conda:
        "../../envs/conda.yaml"
    params:
        runs=lambda wildcards: runs_parameters(wildcards.dataset),
        batch_size=lambda wildcards: min(run.batch_size for run in CONFIG.runs if run.dataset == wildcards.dataset),
        code=code_hash("figures", "tables"),
    script:
        "../scripts/fig2_3_ax_over_epochs.py"


rule fig4_5_ax_at_minimum:
    """Fig. 4 (CIFAR-10) and 5 (MNIST): the distribution of a_x at the lowest validation loss, by batch size."""
    input:
        histograms=lambda wildcards: of_runs("at_minimum/ax_histogram.parquet", wildcards.dataset),
        metrics=lambda wildcards: of_runs("metrics.csv", wildcards.dataset),
    output:
        svg=report(
            "<results>/figures/fig{number}_ax_at_minimum_{dataset}.svg",
            caption="../report/fig4_5.rst",
            category="Figures",
            labels={"figure": "Fig. {number}: a_x at the lowest validation loss, {dataset}"},
        ),
        pdf="<results>/figures/fig{number}_ax_at_minimum_{dataset}.pdf",
        csv="<results>/figures/fig{number}_ax_at_minimum_{dataset}.csv",
    log:
        "<logs>/figures/fig{number}_ax_at_minimum_{dataset}.log",
    conda:
        "../../envs/conda.yaml"
    params:
        runs=lambda wildcards: runs_parameters(wildcards.dataset),
        code=code_hash("figures", "tables"),
    script:
        "../scripts/fig4_5_ax_at_minimum.py"


rule fig6_trimmed_eigenvalues:
    """Fig. 6: the table of A, B and the relative decrease in the figure layer."""
    input:
        "<results>/tables/trimmed_eigenvalues.parquet",
    output:
        svg=report(
            "<results>/figures/fig6_trimmed_eigenvalues.svg",
            caption="../report/fig6.rst",
            category="Figures",
            labels={"figure": "Fig. 6: eigenvalue without the largest 10 %"},
        ),
        pdf="<results>/figures/fig6_trimmed_eigenvalues.pdf",
        csv="<results>/figures/fig6_trimmed_eigenvalues.csv",
    log:
        "<logs>/figures/fig6_trimmed_eigenvalues.log",
    conda:
        "../../envs/conda.yaml"
    params:
        layers={model: CONFIG.architectures[model].figure_layer for model in CONFIG.models},
        code=code_hash("figures", "tables"),
    script:
        "../scripts/fig6_trimmed_eigenvalues.py"


rule fig7_outliers:
    """Fig. 7: the number of outliers over epochs, with the validation loss."""
    input:
        outliers=of_runs("outliers.csv"),
        metrics=of_runs("metrics.csv"),
    output:
        svg=report(
            "<results>/figures/fig7_outliers.svg",
            caption="../report/fig7.rst",
            category="Figures",
            labels={"figure": "Fig. 7: outliers and validation loss"},
        ),
        pdf="<results>/figures/fig7_outliers.pdf",
        csv="<results>/figures/fig7_outliers.csv",
    log:
        "<logs>/figures/fig7_outliers.log",
    conda:
        "../../envs/conda.yaml"
    params:
        runs=runs_parameters(),
        reading=CONFIG.analysis.outlier_reading,
        code=code_hash("figures", "tables"),
    script:
        "../scripts/fig7_outliers.py"


rule table1_machine:
    """Table 1 as a figure."""
    input:
        "<results>/tables/table1_machine.parquet",
    output:
        svg=report(
            "<results>/figures/table1_machine.svg",
            caption="../report/table1.rst",
            category="Figures",
            labels={"figure": "Table 1: machine and software"},
        ),
        pdf="<results>/figures/table1_machine.pdf",
        csv="<results>/figures/table1_machine.csv",
    log:
        "<logs>/figures/table1_machine.log",
    conda:
        "../../envs/conda.yaml"
    params:
        code=code_hash("figures", "tables"),
    script:
        "../scripts/table1_machine.py"
