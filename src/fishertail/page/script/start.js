// Charts are made, choices offered, and what depends on a choice is shown again.
const views = {};
const CHOICES = data.choices;

const fill = (select, values, kept) => {
  select.replaceChildren(...values.map((value) => (value instanceof Option ? value : new Option(value, value))));
  if ([...select.options].some((option) => option.value === String(kept))) select.value = kept;
};

// The runs that agree with the choices before this one: the grid need not hold every combination.
const offered = (choice) => {
  const earlier = CHOICES.slice(0, CHOICES.indexOf(choice));
  return data.runs.filter((run) => earlier.every((name) => String(run[name]) === byId(name).value));
};
const fillChoices = () => {
  const run = chosenRun();
  for (const name of CHOICES) fill(byId(name), [...new Set(offered(name).map((each) => each[name]))], run[name]);
  fill(byId("second"), [new Option("none", ""), ...data.runs.filter((each) => each !== run).map((each) => each.name)], state.second ?? "");
  fill(byId("layer"), Object.keys(run.layers), state.layer);
  byId("axis").value = state.axis;
  byId("shade").value = state.shade;
  slider.max = run.steps.length - 1;
};

// After a choice of the run: later choices are kept where they are still offered.
const chooseRun = (from) => {
  for (const name of CHOICES.slice(from)) {
    const kept = byId(name).value;
    fill(byId(name), [...new Set(offered(name).map((run) => run[name]))], kept);
  }
  const time = timeOf(state.step, chosenRun()), before = chosenRun();
  const run = data.runs.find((each) => CHOICES.every((name) => String(each[name]) === byId(name).value));
  const atMinimum = state.step === before.minimum;
  state.run = run.name;
  if (state.second === run.name) state.second = null;
  if (!(state.layer in run.layers)) state.layer = run.figure_layer;
  state.step = atMinimum ? firstShown(run) : nearest(run, time);
  showAll();
};
const goTo = (step) => { state.step = step; showStep(); };

const redraw = () => {
  for (const view of Object.values(views)) view.runAsync();
  writeAddress();
};
const showStep = () => {
  showCheckpoint();
  for (const name of ["outlier-share", ...Object.keys(data.instruments)]) setHere(views[name]).signal("step", state.step);
  for (const name of ["depth", "depth2"]) setHere(views[name]);
  showFit();
  redraw();
};
const showAll = () => {
  fillChoices();
  const beside = secondRun() !== null, changed = beside === byId("second-key").hidden;
  for (const each of document.querySelectorAll(".second")) each.hidden = !beside;
  byId("second-key").textContent = beside ? `Coloured: ${state.run}. Grey, dashed: ${state.second}.` : "";
  if (changed) window.dispatchEvent(new Event("resize")); // charts that were hidden, or become narrower, learn their width
  showStory();
  showCurves();
  showLayers();
  showStays();
  showStep();
};

// A click into a chart over time chooses the checkpoint that is nearest to it.
const chooseByClick = (name, view) => view.addEventListener("click", (event) => {
  const frame = byId(`chart-${name}`).querySelector("svg").getBoundingClientRect();
  const x = view.scale("x").invert(event.clientX - frame.left - view.origin()[0]);
  const run = chosenRun(), distance = (step) => Math.abs(position(step, run) - x);
  goTo(run.steps.reduce((best, step) => (distance(step) < distance(best) ? step : best), run.steps[0]));
});

const offerAxes = () => {
  const units = data.runs.every((run) => run.per_epoch) ? ["epochs", "steps"] : ["steps"];
  fill(byId("axis"), units.flatMap((unit) => [new Option(`${unit}, logarithmic`, `log-${unit}`), new Option(`${unit}, linear`, `linear-${unit}`)]));
  fill(byId("shade"), Object.entries(SHADES).filter(([, { key }]) => key in data.instruments).map(([name, { title }]) => new Option(title, name)));
};
const listen = () => {
  CHOICES.forEach((name, i) => byId(name).addEventListener("change", () => chooseRun(i + 1)));
  for (const name of ["second", "layer", "axis", "shade"])
    byId(name).addEventListener("change", (event) => { state[name] = event.target.value || null; showAll(); });
  slider.addEventListener("input", () => goTo(chosenRun().steps[Number(slider.value)]));
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) { readAddress(); showAll(); } });
  // a link to a section must not put its name in the place of the state
  for (const link of document.querySelectorAll("nav a, .skip")) link.addEventListener("click", (event) => {
    event.preventDefault();
    const target = document.querySelector(link.getAttribute("href"));
    target.scrollIntoView();
    target.tabIndex = -1;
    target.focus({ preventScroll: true });
  });
};
const start = async () => {
  document.addEventListener("click", (event) => { if (event.target.dataset?.csv) download(event.target.dataset.csv); });
  for (const each of document.querySelectorAll(".forest")) tables[each.id] = JSON.parse(each.dataset.rows);
  if (data.runs.length) {
    for (const [name, spec] of Object.entries(charts)) {
      // only errors are logged: a chart warns of having no data before it is filled
      const { view } = await vegaEmbed(byId(`chart-${name}`), spec, { actions: false, renderer: "svg", logLevel: 1 });
      views[name] = view;
      if (!name.startsWith("histogram") && !name.startsWith("fit")) chooseByClick(name, view);
    }
    offerAxes();
    readAddress();
    listen();
    showAll();
  }
  document.body.dataset.ready = "true";
};
start();
