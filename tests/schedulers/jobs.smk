# Jobs that show what a node has; they declare what they need as the rules of the workflow do.


configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/cluster.smk"  # before the rules: those for GPUs keep them, though the grid runs on CPUs


rule whole_node:
    output:
        "out/whole_node.json",
    log:
        "logs/whole_node.log",
    threads: 4
    resources:
        **MACHINE,
        gpus=4,
        mem_mb=memory(2000),
        runtime=3,
    script:
        "whole_node.py"


rule faulty:
    output:
        "out/faulty.txt",
    log:
        "logs/faulty.log",
    resources:
        **MACHINE,
        gpus=1,
        mem_mb=memory(500),
        runtime=2,
    script:
        "faulty.py"


rule on_a_gpu:
    output:
        "out/on_a_gpu.txt",
    log:
        "logs/on_a_gpu.log",
    resources:
        **MACHINE,
        gpus=1,
        mem_mb=memory(1000),
        runtime=2,
    script:
        "on_a_gpu.py"
