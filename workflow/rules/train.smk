# Training: plain SGD by blocks of epochs, each from the last weights of the one before


rule train:
    """Train one block of epochs; keep the weights, losses and accuracies at its checkpoints."""
    input:
        dataset=DATASET,
        previous=PLAN.previous_weights,
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
        runtime=minutes("train"),
    params:
        run=PLAN.run_parameters,
        epochs=PLAN.block_epochs,
        octaves=PLAN.octaves,
        code=PLAN.code_of_training,
    script:
        "../scripts/train.py"


rule run_metrics:
    """Put the metrics of all blocks of a run together."""
    input:
        PLAN.metrics_parts,
    output:
        metrics=f"{RUN}/metrics.csv",
    log:
        f"<logs>/run_metrics/{RUN_NAME}.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        run=PLAN.run_parameters,
        blocks=PLAN.all_blocks,
        code=plan.code_hash("execution.steps:put_metrics_together"),
    script:
        "../scripts/run_metrics.py"
