# Data sets: read from their source once, checked, and kept as one file with a content hash


rule prepare_dataset:
    """Read a data set from its source (downloading it where it must), check it, and write it as one file."""
    input:
        lambda wildcards: sources.source_files(wildcards.dataset, CONFIG.machine.data_dir),
    output:
        DATASET,
    log:
        "<logs>/prepare_dataset/{dataset}.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    resources:
        data_dir=CONFIG.machine.data_dir,
    params:
        dataset=lambda wildcards: wildcards.dataset,
        code=lambda wildcards: code_hash(
            sources.module(wildcards.dataset, CONFIG.machine.data_dir, check_files=workflow.is_main_process),
            "data.dataset",
        ),
    script:
        "../scripts/prepare_dataset.py"
