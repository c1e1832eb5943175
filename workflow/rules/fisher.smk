# Spectra: the largest eigenpairs of the empirical Fisher matrix over all samples, and a_x


rule fim_eigen:
    """Eigenpairs of F, and a_x of every sample, at the wanted epochs of a block."""
    input:
        dataset=DATASET,
        checkpoints=f"{RUN}/{{block}}/checkpoints.safetensors",
        gradients=f"{RUN}/{{block}}/gradients.parquet",
    output:
        spectrum=f"{RUN}/{{block}}/spectrum.csv",
        projections=f"{RUN}/{{block}}/projections.parquet",
        eigenvectors=f"{RUN}/{{block}}/eigenvectors.safetensors",
    log:
        f"<logs>/fim_eigen/{RUN_NAME}-{{block}}.log",
    benchmark:
        f"<benchmarks>/fim_eigen/{RUN_NAME}-{{block}}.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        **MACHINE,
        gpus=CONFIG.machine.gpus,
        mem_mb=memory(12000),
        runtime=minutes(120),
    params:
        run=run_parameters,
        epochs=spectrum_epochs,
        layers=analysed_layers(),
        eigenpairs=CONFIG.analysis.eigenpairs,
        tolerance=CONFIG.analysis.tolerance,
        code=code_hash("analysis", "models", "parallel", "data.dataset"),
    script:
        "../scripts/fim_eigen.py"


rule fim_eigen_at_minimum:
    """The same at the epoch of lowest validation loss, known after training only; taken from the block that has it."""
    input:
        dataset=DATASET,
        metrics=f"{RUN}/metrics.csv",
        checkpoints=of_blocks("checkpoints.safetensors"),
        gradients=of_blocks("gradients.parquet"),
        spectrum=of_blocks("spectrum.csv"),
        projections=of_blocks("projections.parquet"),
        eigenvectors=of_blocks("eigenvectors.safetensors"),
    output:
        spectrum=f"{RUN}/at_minimum/spectrum.csv",
        projections=f"{RUN}/at_minimum/projections.parquet",
        eigenvectors=f"{RUN}/at_minimum/eigenvectors.safetensors",
    log:
        f"<logs>/fim_eigen_at_minimum/{RUN_NAME}.log",
    benchmark:
        f"<benchmarks>/fim_eigen_at_minimum/{RUN_NAME}.tsv"
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
        layers=analysed_layers(),
        eigenpairs=CONFIG.analysis.eigenpairs,
        tolerance=CONFIG.analysis.tolerance,
        code=code_hash("analysis", "models", "data.dataset"),
    script:
        "../scripts/fim_eigen_at_minimum.py"
