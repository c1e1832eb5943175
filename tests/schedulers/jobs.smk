# Jobs that show what a scheduler and its profile do: they declare what they need as the rules of the workflow do.


configfile: "config.yaml"


SECONDS = config.pop("seconds", 3)  # no key of the project's configuration


include: "workflow/rules/common.smk"


rule one_gpu:
    output:
        "out/one_gpu{number}.txt",
    resources:
        gpus=1,
        mem_mb=memory(200),
        runtime=minutes(2),
    params:
        seconds=SECONDS,
    shell:
        "echo ${{CUDA_VISIBLE_DEVICES:-none}} ${{SLURMD_NODENAME:-$(hostname)}} $(date +%s.%N) > {output}.part; sleep {params.seconds}; "
        "date +%s.%N >> {output}.part; echo {wildcards.number} >> out/executions; mv {output}.part {output}"


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
        runtime=minutes(3),
    script:
        "whole_node.py"


rule too_slow:  # for its first attempt
    output:
        "out/too_slow.txt",
    resources:
        gpus=1,
        mem_mb=memory(200),
        runtime=minutes(1),
    shell:
        "echo {resources.runtime} >> out/attempts; sleep 95; touch {output}"


rule faulty:
    output:
        "out/faulty.txt",
    log:
        "logs/faulty.log",
    resources:
        **MACHINE,
        gpus=1,
        mem_mb=memory(500),
        runtime=minutes(2),
    script:
        "faulty.py"


rule many:
    output:
        "out/many{number}.txt",
    resources:
        gpus=1,
        mem_mb=memory(200),
        runtime=minutes(2),
    shell:
        "echo {wildcards.number} >> out/executions; date +%s.%N > {output}"


rule chained:
    input:
        lambda wildcards: f"out/chained{int(wildcards.number) - 1}.txt" if int(wildcards.number) else [],
    output:
        "out/chained{number}.txt",
    resources:
        gpus=1,
        mem_mb=memory(200),
        runtime=minutes(2),
    shell:
        "date +%s.%N > {output}; date +%s.%N >> {output}"


include: "workflow/rules/cluster.smk"
