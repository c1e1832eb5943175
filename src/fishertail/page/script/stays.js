// The samples that stay among the outliers of largest norm longest, each with a bar for every checkpoint it is listed at.
const MOST_SAMPLES = 16;

// By sample: its label, the checkpoints at which it is listed, and the largest share of lambda_1 that it carried.
const staysOf = (run) => {
  const lambda = run.layers[run.figure_layer]?.curves.spectrum ?? { steps: [], values: [] }, found = new Map();
  for (const [step, rows] of Object.entries(run.outliers)) for (const [sample, label, , , ax] of rows) {
    const stay = found.get(sample) ?? { sample, label, steps: [], share: 0 };
    const whole_sum = valueAt(lambda, Number(step)) * run.samples;
    stay.steps.push(Number(step));
    if (ax !== null && whole_sum > 0) stay.share = Math.max(stay.share, ax * ax / whole_sum);
    found.set(sample, stay);
  }
  return [...found.values()].sort((a, b) => b.steps.length - a.steps.length || b.share - a.share);
};

const showStays = () => {
  const run = chosenRun(), stays = staysOf(run), steps = Object.keys(run.outliers).map(Number).sort((a, b) => a - b);
  const axis = timeAxis(), sides = columns(steps, run);
  const place = (x) => 100 * (x - axis.first) / (axis.last - axis.first);
  const bar = ([from, to]) => {
    const made = element("i");
    made.style.left = `${place(from)}%`;
    made.style.width = `max(${place(to) - place(from)}%, 2px)`;
    return made;
  };
  const row = ({ sample, label, steps: listed, share }) => {
    const name = labelText(run, label), carried = share ? `, up to ${Number((100 * share).toPrecision(2))} % of lambda_1` : "";
    return element("li", {}, element("div", { className: "who" }, ...picture(run, sample, name), element("span", {},
      element("b", { textContent: sampleText(run, sample, label) }), `${listed.length} of ${steps.length} checkpoints${carried}`)),
    element("div", { className: "track" }, ...listed.map((step) => bar(sides[steps.indexOf(step)]))));
  };
  byId("stays").replaceChildren(...stays.slice(0, MOST_SAMPLES).map(row));
  const ticks = element("div", { className: "track ticks" }, ...axis.ticks.map((at, i) => {
    const tick = element("span", { textContent: axis.labels[i] });
    tick.style.left = `${place(at)}%`;
    return tick;
  }));
  byId("stays").append(element("li", { ariaHidden: "true" }, element("div", { className: "who" }), ticks));
  tables.stays = stays.map(({ sample, label, steps: listed, share }) => ({
    run: run.name, sample, label, checkpoints: listed.length, first: listed[0], last: listed.at(-1), largest_share_of_lambda_1: share || null,
  }));
  byId("lasting").hidden = !stays.length;
  byId("stays-missing").textContent = stays.length ? "" : "No outliers are listed in this run.";
};
