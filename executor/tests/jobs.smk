# Jobs that show what a scheduler and the executor do.
SECONDS = config.get("seconds", 3)


rule one_gpu:
    output:
        "out/one_gpu{number}.txt",
    resources:
        gpus=1,
    params:
        seconds=SECONDS,
    shell:
        "echo ${{CUDA_VISIBLE_DEVICES:-none}} ${{SLURMD_NODENAME:-$(hostname)}} $(date +%s.%N) > {output}.part; sleep {params.seconds}; "
        "date +%s.%N >> {output}.part; echo {wildcards.number} >> out/executions; mv {output}.part {output}"


rule in_a_folder:  # Snakemake creates the folder, and removes it if it is empty
    output:
        "folders/{number}/result.txt",
    resources:
        runtime=10,
    shell:
        "until [ -e go ]; do sleep 0.2; done; echo {wildcards.number} >> out/executions; touch {output}"


rule short:
    output:
        "out/short{number}.txt",
    params:
        seconds=lambda wildcards: int(wildcards.number) % 4,
    shell:
        "sleep {params.seconds}; echo {wildcards.number} >> out/executions; date +%s.%N > {output}"


rule chained:
    input:
        lambda wildcards: f"out/chained{int(wildcards.number) - 1}.txt" if int(wildcards.number) else [],
    output:
        "out/chained{number}.txt",
    shell:
        "date +%s.%N > {output}; echo chained{wildcards.number} >> out/executions; date +%s.%N >> {output}"


rule too_slow:  # for the walltime of its first attempt
    output:
        "out/too_slow.txt",
    log:
        "logs/too_slow.log",
    resources:
        runtime=lambda wildcards, attempt: 2 * attempt - 1,  # the second has time to start on a busy machine
    shell:
        "echo {resources.runtime} >> out/attempts; sleep 95; touch {output}"


rule faulty:  # fails in a way that would happen again, and says so
    output:
        "out/faulty.txt",
    log:
        "logs/faulty.log",
    shell:
        "echo run >> out/faults; echo '10 classes expected, found 9' > {log}; touch $SNAKEMAKE_QUEUE_FINAL; exit 3"


rule unlucky:  # fails in its first attempt
    output:
        "out/unlucky.txt",
    shell:
        "echo run >> out/attempts; [ $(wc -l < out/attempts) -gt 1 ]; touch {output}"


rule logged:
    output:
        "out/logged.txt",
    log:
        "logs/logged.log",
    shell:
        "touch {output} {log}"


rule first_of_a_group:
    output:
        "out/first{number}.txt",
    group:
        "pair"
    shell:
        "echo first{wildcards.number} >> out/executions; touch {output}"


rule second_of_a_group:
    input:
        "out/first{number}.txt",
    output:
        "out/second{number}.txt",
    log:
        "logs/second{number}.log",
    group:
        "pair"
    shadow:
        "minimal"
    shell:
        "touch {output}; [ {wildcards.number} -lt 100 ]"


rule many_outputs:
    output:
        [f"out/file{number}.txt" for number in range(25)],
    shell:
        "touch {output}"


rule many_inputs:
    input:
        [f"out/file{number}.txt" for number in range(25)],
    output:
        "out/many_inputs.txt",
    shell:
        "touch {output}"
