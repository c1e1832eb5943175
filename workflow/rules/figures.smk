# Figures: each as SVG and PDF, with the table behind it as CSV; a rule for each registered one

for each in PLAN.figures.values():

    rule:
        name:
            each.rule
        input:
            unpack(PLAN.figure_inputs(each)),
        output:
            svg=report(
                f"<results>/figures/{each.name}.svg",
                caption=str(CAPTIONS / f"{each.rule}.rst"),
                category="Figures",
                labels={"figure": each.title},
            ),
            pdf=f"<results>/figures/{each.name}.pdf",
            csv=f"<results>/figures/{each.name}.csv",
        log:
            f"<logs>/figures/{each.name}.log",
        conda:
            "../../envs/conda.yaml"
        params:
            figure=each.rule,
            dataset=lambda wildcards: wildcards.get("dataset"),
            runs=lambda wildcards: PLAN.runs_parameters(wildcards.get("dataset")),
            settings=PLAN.settings(each.settings),
            code=plan.code_of_figure(each),
        script:
            "../scripts/figure.py"
