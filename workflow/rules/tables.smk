# Tables over all runs, the claims among them: a rule for each registered one (src/fishertail/paper/tables)

for each in PLAN.tables.values():

    rule:
        name:
            each.name
        input:
            **PLAN.inputs_of(each.needs, each.provenance_of),
        output:
            [
                report(
                    f"<results>/tables/{table.name}.html",
                    caption=str(CAPTIONS / f"{each.name}.rst"),
                    category=each.category,
                    labels={"table": f"{each.title}: {table.meaning}"},
                )
                for table in each.tables
            ],
            PLAN.table_files(each),
        log:
            f"<logs>/{each.name}.log",
        conda:
            "../../envs/conda.yaml"
        params:
            table=each.name,
            runs=PLAN.runs_parameters(),
            settings=PLAN.settings(each.settings),
            code=plan.code_of_table(each),
        script:
            "../scripts/table.py"
