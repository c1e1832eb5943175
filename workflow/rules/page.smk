# The page: figures, tables, claims and an explorer in one HTML file that needs no network


localrules:
    page_so_far,


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


rule page_so_far:
    """The same from what is there, also while jobs run, with what is still to come (make page)."""
    output:
        "<results>/report/so_far.html",
    log:
        "<logs>/page_so_far.log",
    conda:
        "../../envs/conda.yaml"
    params:
        runs=PLAN.runs_so_far(),
        files=PLAN.page_files_so_far(),
        settings=PLAN.settings(["measurements.outliers.reading"]),
        configuration=settings.as_yaml(CONFIG),
    script:
        "../scripts/page_so_far.py"
