# Measurements of a run: a rule for each registered one (src/fishertail/measurements), by its scope
#
# Of a checkpoint's gradients: per_sample_gradients, fim_eigen, trimmed_eigenvalues; each with a second rule for the
# landmarks, the checkpoints that are known only once a run has finished. From tables: ax_histogram, ax_statistics,
# trimmed_both_ends, mad_curve, outlier_samples, fit. Of each checkpoint and the one before it: alignment. From the tables
# of a whole run: layers, drift_to_diffusion, ax_at_minimum.

for each in PLAN.measurements.values():
    if each.scope == "gradients":

        rule:
            name:
                each.rule
            input:
                unpack(PLAN.block_inputs(each)),
            output:
                **PLAN.files(each, f"{RUN}/{{block}}"),
            log:
                f"<logs>/{each.rule}/{RUN_NAME}-{{block}}.log",
            benchmark:
                f"<benchmarks>/{each.rule}/{RUN_NAME}-{{block}}.tsv"
            conda:
                "../../envs/conda.yaml"
            threads: 1
            resources:
                **MACHINE,
                gpus=CONFIG.machine.gpus,
                mem_mb=memory(each.memory),
                runtime=minutes(each.rule),
            params:
                measurement=each.name,
                run=PLAN.run_parameters,
                epochs=PLAN.block_epochs,
                checkpoints=PLAN.selection(each),
                options=PLAN.options(each),
                code=PLAN.code_of(each, "measure_block"),
            script:
                "../scripts/measure_block.py"

        rule:
            name:
                f"{each.rule}_at_landmarks"
            input:
                unpack(PLAN.landmark_inputs(each)),
            output:
                **PLAN.files(each, f"{RUN}/landmarks"),
            log:
                f"<logs>/{each.rule}_at_landmarks/{RUN_NAME}.log",
            benchmark:
                f"<benchmarks>/{each.rule}_at_landmarks/{RUN_NAME}.tsv"
            conda:
                "../../envs/conda.yaml"
            threads: 1
            resources:
                **MACHINE,
                gpus=1,
                mem_mb=memory(each.memory),
                runtime=minutes(f"{each.rule}_at_landmarks"),
            params:
                measurement=each.name,
                run=PLAN.run_parameters,
                blocks=PLAN.new_block_epochs,
                options=PLAN.options(each),
                code=PLAN.code_of(each, "measure_landmarks"),
            script:
                "../scripts/measure_landmarks.py"

    elif each.scope == "pair":

        rule:
            name:
                each.rule
            input:
                unpack(PLAN.pair_inputs(each)),
            output:
                **PLAN.files(each, f"{RUN}/{{block}}"),
            log:
                f"<logs>/{each.rule}/{RUN_NAME}-{{block}}.log",
            conda:
                "../../envs/conda.yaml"
            threads: 1
            resources:
                device="cpu",
                mem_mb=memory(each.memory),
            params:
                measurement=each.name,
                run=PLAN.run_parameters,
                options=PLAN.options(each),
                code=PLAN.code_of(each, "measure_pairs"),
            script:
                "../scripts/measure_pairs.py"

    elif each.scope == "run":

        rule:
            name:
                each.rule
            input:
                unpack(PLAN.run_inputs(each)),
            output:
                **PLAN.files(each, RUN),
            log:
                f"<logs>/{each.rule}/{RUN_NAME}.log",
            conda:
                "../../envs/conda.yaml"
            params:
                measurement=each.name,
                run=PLAN.run_parameters,
                options=PLAN.options(each),
                code=PLAN.code_of(each, "measure_run"),
            script:
                "../scripts/measure_run.py"

    else:

        rule:
            name:
                each.rule
            input:
                unpack(PLAN.table_inputs(each)),
            output:
                **PLAN.files(each, RUN),
            log:
                f"<logs>/{each.rule}/{RUN_NAME}.log",
            conda:
                "../../envs/conda.yaml"
            params:
                measurement=each.name,
                run=PLAN.run_parameters,
                options=PLAN.options(each),
                code=PLAN.code_of(each, "measure_tables"),
            script:
                "../scripts/measure_tables.py"
