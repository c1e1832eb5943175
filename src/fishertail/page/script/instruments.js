// Every instrument of the chosen run, and of the second one, over the shared axis of time.
const points = (run, { steps, values }, which) => steps.map((step, i) => ({
  run: which, step, epoch: run.per_epoch ? epochText(step, run) : "–", x: position(step, run), value: values[i],
}));
const marks = () => shownRuns().filter((run) => run.minimum !== null)
  .map((run) => ({ x: position(run.minimum, run), run: run.name === state.run ? 1 : 2 }));

const showCurve = (name, curveIn, logarithmic) => {
  const curves = shownRuns().map((run) => points(run, curveIn(run), run.name === state.run ? 1 : 2));
  const rows = curves.flat().filter(({ value }) => !logarithmic || value > 0);
  setHere(setAxis(views[name])).data("curve", rows).data("marks", marks()).signal("step", state.step);
  tables[name] = rows.map(({ run, step, epoch, value }) => ({ run: shownRuns()[run - 1].name, layer: state.layer, step, epoch, value }));
  byId(`box-${name}`).classList.toggle("empty", !rows.length);
};
const showCurves = () => {
  showCurve("outlier-share", shareOfOutliers, false);
  byId("missing-outlier-share").textContent = shareOfOutliers(chosenRun()).values.length ? "" : "not counted for the whole network";
  const absent = [];
  for (const [key, instrument] of Object.entries(data.instruments)) {
    showCurve(key, (run) => curveOf(run, key), instrument.scale === "log");
    byId(`missing-${key}`).textContent = shownRuns().map((run) => whyMissing(run, key)).filter(Boolean).join("; ");
    byId(`box-${key}`).hidden = shownRuns().every((run) => isAbsent(run, key));
    if (byId(`box-${key}`).hidden) absent.push(instrument.title);
  }
  byId("not-measured").textContent = absent.length ? `Not measured: ${absent.join(", ")}.` : "";
};

// Whether an instrument has nothing of a run, in no layer, and did not fail either.
const failureOf = (run, key) => run.failures.find(
  ({ measurement }) => measurement === key || measurement === data.instruments[key].measurement);
const isAbsent = (run, key) => !run.curves[key] && !failureOf(run, key)
  && Object.values(run.layers).every(({ curves }) => !curves[key]);

// Why a chart is empty: it failed, was measured of other layers alone, or not in this run.
const whyMissing = (run, key) => {
  if (curveOf(run, key).steps.length) return "";
  const of = secondRun() ? ` in ${run.name}` : "";
  const failure = failureOf(run, key);
  if (failure) return `failed${of} at step ${whole(failure.step)}: ${failure.reason}`;
  const others = Object.keys(run.layers).filter((layer) => run.layers[layer].curves[key]);
  return others.length ? `measured${of} in ${others.join(", ")} only` : `not measured${of || " in this run"}`;
};
