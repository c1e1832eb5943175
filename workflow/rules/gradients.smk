# Per-sample gradients: the norm of every training sample's gradient, in each layer and the network


rule per_sample_gradients:
    """Loss, correctness and gradient norms of every training sample after each epoch of a block."""
    input:
        dataset=DATASET,
        checkpoints=f"{RUN}/{{block}}/checkpoints.safetensors",
    output:
        f"{RUN}/{{block}}/gradients.parquet",
    log:
        f"<logs>/per_sample_gradients/{RUN_NAME}-{{block}}.log",
    benchmark:
        f"<benchmarks>/per_sample_gradients/{RUN_NAME}-{{block}}.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        **MACHINE,
        gpus=CONFIG.machine.gpus,
        mem_mb=memory(6000),
        runtime=minutes(60),
    params:
        run=run_parameters,
        epochs=block_epochs,
        code=code_hash("gradient_table", "models", "parallel", "data.dataset"),
    script:
        "../scripts/per_sample_gradients.py"
