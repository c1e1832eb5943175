# Training: plain SGD by blocks of epochs, each from the last weights of the one before


rule train:
    """Train one block of epochs; keep the weights after each, and losses and accuracies."""
    input:
        dataset=DATASET,
        previous=previous_checkpoints,
    output:
        checkpoints=f"{RUN}/{{block}}/checkpoints.safetensors",
        metrics=f"{RUN}/{{block}}/metrics.csv",
    log:
        f"<logs>/train/{RUN_NAME}-{{block}}.log",
    benchmark:
        f"<benchmarks>/train/{RUN_NAME}-{{block}}.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        **MACHINE,
        gpus=1,
        mem_mb=memory(4000),
        runtime=minutes(120),
    params:
        run=run_parameters,
        epochs=block_epochs,
        code=code_hash("training", "models", "checkpoints", "metrics", "data.dataset"),
    script:
        "../scripts/train.py"


rule run_metrics:
    """Put the metrics of all blocks of a run together."""
    input:
        of_blocks("metrics.csv"),
    output:
        f"{RUN}/metrics.csv",
    log:
        f"<logs>/run_metrics/{RUN_NAME}.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        code=code_hash("storage"),
    script:
        "../scripts/run_metrics.py"
