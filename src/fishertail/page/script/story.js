// What happened in a run: when lambda_1 was largest, the outliers arose, the validation loss was lowest, and how it ended.
const ONSET = 0.01; // the share of outliers that claim 5 asks for

const shareOfOutliers = (run) => {
  const { steps, values } = curveOf(run, "outliers", "network");
  return { steps, values: run.samples ? values.map((value) => value / run.samples) : [] };
};
const times = (ratio) => (ratio >= 100 ? whole(Math.round(ratio)) : String(Number(ratio.toPrecision(2))));

const largest = (run) => {
  const { steps, values } = curveOf(run, "spectrum");
  if (!steps.length) return [];
  const top = values.indexOf(Math.max(...values)), start = values[0];
  const when = steps[0] === 0 ? "at the start" : `after ${timeText(steps[0], run)}`;
  const against = top === 0 ? ": the first that was measured" : start > 0 ? `, ${times(values[top] / start)} times that ${when}` : "";
  return [{ step: steps[top], what: `lambda_1 of ${state.layer} is largest`, detail: `${number(values[top])}${against}` }];
};
const onset = (run) => {
  const { steps, values } = shareOfOutliers(run);
  const first = values.findIndex((value, i) => i > 0 && value >= ONSET && values[i - 1] < ONSET);
  if (first < 0) return [];
  return [{ step: steps[first], what: `Outliers rise above ${percent(ONSET)} of the samples`, detail: `${percent(values[first])} at this checkpoint` }];
};
const lowest = (run) => {
  if (run.minimum === null) return [];
  const loss = valueAt(curveOf(run, "validation_loss"), run.minimum), accuracy = valueAt(curveOf(run, "validation_accuracy"), run.minimum);
  const reached = accuracy === undefined ? "" : `, accuracy ${percent(accuracy)}`;
  const early = run.passed === false ? "; the run ends too soon after it to exclude that it falls further" : "";
  return [{ step: run.minimum, what: "The validation loss is lowest", detail: `${number(loss)}${reached}${early}` }];
};
const ending = (run) => {
  const step = run.steps.at(-1), { steps, values } = curveOf(run, "spectrum"), share = shareOfOutliers(run);
  const parts = [];
  if (steps.length > 1) parts.push(`lambda_1 ${number(values.at(-1))}${fallen(values)}`);
  if (share.values.length) parts.push(`${percent(share.values.at(-1))} outliers`);
  const accuracy = valueAt(curveOf(run, "train_accuracy"), step);
  if (accuracy !== undefined) parts.push(`training accuracy ${percent(accuracy)}`);
  return [{ step, what: "The last checkpoint", detail: parts.join(", ") }];
};
const fallen = (values) => {
  const ratio = Math.max(...values) / values.at(-1);
  return Number.isFinite(ratio) && ratio > 1.05 ? `, ${times(ratio)} times less than at its largest` : "";
};
const eventsOf = (run) => [...largest(run), ...onset(run), ...lowest(run), ...ending(run)].sort((a, b) => a.step - b.step);

const showStory = () => {
  byId("story-title").textContent = secondRun() ? "Two runs" : nameOf(chosenRun());
  byId("events").replaceChildren(...shownRuns().map((run) => element("div", {},
    ...(secondRun() ? [element("h3", { textContent: nameOf(run) })] : []),
    element("ol", {}, ...eventsOf(run).map((event) => eventItem(event, run))), ...missingOf(run))));
  tables.story = shownRuns().flatMap((run) => eventsOf(run).map((event) => ({ run: run.name, ...event })));
};
const eventItem = ({ step, what, detail }, run) => {
  const time = element("button", { type: "button", textContent: timeText(step, run), title: "show this checkpoint" });
  time.addEventListener("click", () => goTo(nearest(chosenRun(), timeOf(step, run))));
  return element("li", {}, time, element("b", { textContent: what }), element("span", { textContent: detail }));
};
const nameOf = (run) => data.choices.length
  ? `${run.dataset}, ${run.model}, batch size ${run.batch_size}, seed ${run.seed}` : run.name;

// What the story cannot say of this run, and what failed in it.
const missingOf = (run) => {
  const lines = [];
  if (!curveOf(run, "spectrum").steps.length) lines.push(`lambda_1 was not measured${ofLayer()}.`);
  const share = shareOfOutliers(run);
  if (!share.values.length) lines.push("Outliers of the whole network were not counted.");
  else if (share.values[0] >= ONSET) lines.push(`Outliers are ${percent(share.values[0])} of the samples at the first checkpoint already.`);
  else if (!onset(run).length) lines.push(`The share of outliers does not rise above ${percent(ONSET)} of the samples at any checkpoint.`);
  if (run.minimum === null) lines.push("No validation loss was recorded.");
  for (const { step, measurement, reason } of run.failures.slice(0, 8)) lines.push(`${measurement} failed at step ${whole(step)}: ${reason}`);
  if (run.failures.length > 8) lines.push(`${run.failures.length - 8} further failures.`);
  return lines.length ? [element("ul", { className: "missing" }, ...lines.map((line) => element("li", { textContent: line })))] : [];
};
