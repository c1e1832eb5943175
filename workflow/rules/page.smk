# The page: figures, tables, claims and an explorer in one HTML file that needs no network


rule page:
    """Everything in one file: the claims, the explorer, the figures and the tables."""
    input:
        **PLAN.page_inputs(),
    output:
        "<results>/report/index.html",
    log:
        "<logs>/page.log",
    conda:
        "../../envs/conda.yaml"
    params:
        runs=PLAN.runs_parameters(),
        settings=PLAN.settings(["measurements.outliers.reading"]),
        missing=PLAN.missing(),
        configuration=settings.as_yaml(CONFIG),
        code=[PLAN.code_of_page(), folder_hash("page")],
    script:
        "../scripts/page.py"
