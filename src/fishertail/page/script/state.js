// What is chosen: the run, a second one beside it, the layer, the checkpoint, the axis of time, and the colours by depth.
// It stands in the address, so that a link shows the same.
const data = JSON.parse(byId("data").textContent);
const charts = JSON.parse(byId("charts").textContent);
const state = { run: null, second: null, layer: null, step: null, axis: null, shade: "spectrum" };
const slider = byId("epoch");

const runOf = (name) => data.runs.find((run) => run.name === name) ?? null;
const chosenRun = () => runOf(state.run);
const secondRun = () => runOf(state.second);
const shownRuns = () => [chosenRun(), secondRun()].filter((run) => run !== null);
const layerOf = (run) => run.layers[state.layer] ?? { curves: {}, histogram: { steps: [], counts: [] }, unconverged: [] };
const curveOf = (run, key, layer = state.layer) => run.layers[layer]?.curves[key] ?? run.curves[key] ?? { steps: [], values: [] };
const ofLayer = () => (state.layer ? ` in ${state.layer}` : ""); // an unfinished run may have none
const valueAt = ({ steps, values }, step) => values[steps.indexOf(step)];

// Of two runs of other batch sizes the same epoch is compared, where both have epochs and the axis counts them.
const inEpochs = () => state.axis.endsWith("epochs");
const timeOf = (step, run) => (inEpochs() && run.per_epoch ? step / run.per_epoch : step);
const nearest = (run, time, steps = run.steps) => steps.reduce(
  (best, step) => Math.abs(timeOf(step, run) - time) < Math.abs(timeOf(best, run) - time) ? step : best, steps[0]);

// The checkpoint at which a run is shown: of the second one the nearest that has a_x.
const stepOf = (run) => {
  if (run.name === state.run) return state.step;
  const analysed = layerOf(run).histogram.steps;
  return nearest(run, timeOf(state.step, chosenRun()), analysed.length ? analysed : run.steps);
};

const KEPT_IN_ADDRESS = ["run", "second", "layer", "step", "axis", "shade"];
const writeAddress = () => {
  const kept = new URLSearchParams(KEPT_IN_ADDRESS.filter((key) => state[key] !== null).map((key) => [key, state[key]]));
  history.replaceState(null, "", `#${kept}`);
};

// The state that the address asks for, with what is not known or not there replaced by what one wants to see first.
const readAddress = () => {
  const asked = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const run = runOf(asked.get("run")) ?? data.runs.find((each) => Object.keys(each.layers).length) ?? data.runs[0];
  state.run = run.name;
  state.second = runOf(asked.get("second"))?.name ?? null;
  const axes = [...byId("axis").options].map((option) => option.value);
  state.axis = axes.includes(asked.get("axis")) ? asked.get("axis") : axes[0];
  state.layer = asked.get("layer") in run.layers ? asked.get("layer") : run.figure_layer;
  state.step = asked.has("step") ? nearest(run, timeOf(Number(asked.get("step")), run)) : firstShown(run);
  const shades = [...byId("shade").options].map((option) => option.value);
  if (shades.includes(asked.get("shade"))) state.shade = asked.get("shade");
};
// The lowest validation loss, or the last checkpoint with a_x, or the last.
const firstShown = (run) => run.minimum ?? run.layers[run.figure_layer]?.histogram.steps.at(-1) ?? run.steps.at(-1);
