// The share of outliers against how well the training data are fitted, at all checkpoints of all runs.
const showFit = () => {
  const rows = data.runs.flatMap((run) => run.fit.map(([step, loss, accuracy, share]) => ({
    run: run.name, step, time: timeText(step, run), loss, accuracy, share,
    chosen: run.name === state.run, here: run.name === state.run && step === state.step,
  })));
  views["fit-accuracy"].data("points", rows);
  views["fit-loss"].data("points", rows.filter(({ loss }) => loss > 0));
  tables["fit-accuracy"] = rows.map(({ run, step, accuracy, share }) => ({ run, step, train_accuracy: accuracy, share_of_outliers: share }));
  tables["fit-loss"] = rows.map(({ run, step, loss, share }) => ({ run, step, train_loss: loss, share_of_outliers: share }));
};
