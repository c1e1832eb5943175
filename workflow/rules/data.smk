# Data sets: read from their source once, checked, and kept as one file with a content hash


rule prepare_dataset:
    """Read a data set from its source (downloading it where it must), check it, and write it as one file."""
    input:
        PLAN.source_files,
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
        code=PLAN.code_of_dataset,
    script:
        "../scripts/prepare_dataset.py"
