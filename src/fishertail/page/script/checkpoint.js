// One checkpoint: how a_x is distributed, every instrument's value, and the outliers.
const edges = data.edges.map((edge) => (edge === "-inf" ? -Infinity : edge === "inf" ? Infinity : edge));
const powerOf = (edge) => (edge < 0 ? "−" : "") + raised(Math.round(Math.log10(Math.abs(edge))));

// Counts of one checkpoint by bin: the first bin that is not empty comes before them.
const counts = ([first, ...values]) => values.map((count, i) => [first + i, count]).filter(([, count]) => count > 0);
const total = (row) => row.slice(1).reduce((sum, count) => sum + count, 0);

// Of the bins that any checkpoint of the shown runs uses: the span, the smallest share, and where powers of ten are.
const extent = () => {
  const rows = shownRuns().flatMap((run) => layerOf(run).histogram.counts);
  if (!rows.length) return { floor: 0.5, ticks: [], corners: [] };
  const bins = rows.flatMap(counts).map(([bin]) => bin);
  const first = Math.min(...bins) - 1, last = Math.max(...bins) + 2;
  const floor = 0.5 / Math.max(...rows.map(total), 1);
  const middle = edges.findIndex((edge, i) => edge < 0 && edges[i + 1] > 0);
  const every = (last - first > 60 ? 2 : 1) * (window.innerWidth < 600 || secondRun() ? 2 : 1);
  const ticks = edges
    .map((edge, bin) => ({ edge, bin, exponent: Math.log10(Math.abs(edge)) }))
    .filter(({ edge, bin, exponent }) => Number.isFinite(edge) && bin > first && bin < last && Math.abs(bin - middle) > 2
      && Math.abs(exponent - Math.round(exponent)) < 1e-6 && Math.round(exponent) % every === 0)
    .map(({ edge, bin }) => ({ bin, floor, text: powerOf(edge) }));
  if (middle > first && middle < last) ticks.push({ bin: middle + 0.5, floor, text: "0" });
  return { floor, ticks, corners: [{ bin: first, share: floor }, { bin: last, share: 1 }] };
};

const showHistogram = (name, run) => {
  const { floor, ticks, corners } = extent(), { steps, counts: rows } = layerOf(run).histogram, step = stepOf(run);
  const row = rows[steps.indexOf(step)] ?? [0], samples = total(row);
  const bins = counts(row).map(([bin, count]) => ({
    bin, bin_end: bin + 1, share: count / samples, floor, count, label: `${edgeText(edges[bin])} to ${edgeText(edges[bin + 1])}`,
  }));
  views[name].data("extent", corners).data("ticks", ticks).data("bins", bins);
  tables[name] = bins.map(({ bin, count, share }) => ({
    run: run.name, layer: state.layer, step, bin_left: edges[bin], bin_right: edges[bin + 1], count, share,
  }));
  byId(`missing-${name}`).textContent = bins.length ? "" : histogramMissing(run, steps, step);
  byId(`title-${name}`).textContent = secondRun() ? `a_x, ${run.name}, ${timeText(step, run)}` : "Distribution of a_x";
  byId(`box-${name}`).classList.toggle("empty", !corners.length);
};
const histogramMissing = (run, steps, step) => {
  if (!steps.length) return `a_x was not measured${ofLayer()}`;
  return `a_x was not measured at this checkpoint; the nearest with a_x: ${timeText(nearest(run, timeOf(step, run), steps), run)}`;
};

// The value of every instrument, as texts by title.
const factsOf = (run) => {
  const step = stepOf(run), facts = {};
  for (const [key, { title, kind }] of Object.entries(data.instruments)) {
    if (shownRuns().every((each) => isAbsent(each, key))) continue;
    const text = valueText(valueAt(curveOf(run, key), step), kind, run.samples);
    const doubtful = key === "spectrum" && layerOf(run).unconverged.includes(step);
    facts[kind === "count" ? `${title}, ${state.layer}` : title] = text + (doubtful ? " (not converged)" : "");
  }
  return facts;
};
const showFacts = () => {
  const run = chosenRun(), facts = factsOf(run), others = secondRun() ? factsOf(secondRun()) : {};
  byId("facts").replaceChildren(...Object.entries(facts).map(([name, text]) => element("div", {},
    element("dt", { textContent: name }), element("dd", { textContent: text }),
    ...(name in others ? [element("dd", { className: "other", textContent: others[name] })] : []))));
  const summary = Object.entries(facts).map(([name, text]) => `${name} ${text}`).join(", ");
  slider.setAttribute("aria-valuetext", `${timeText(state.step, run)}: ${summary}`);
  byId("chart-histogram").setAttribute("aria-label", `Distribution of a_x over all training samples after ${timeText(state.step, run)}: ${summary}`);
  tables.facts = Object.keys(facts).map((quantity) => ({ quantity, [run.name]: facts[quantity], ...(secondRun() ? { [state.second]: others[quantity] } : {}) }));
};

const picture = (run, sample, label) => {
  const source = data.images[run.dataset]?.[sample];
  if (!source) return [];
  return [Object.assign(new Image(), { src: source, alt: `training sample ${sample}, labelled ${label}`, title: `training sample ${sample}` })];
};
const labelText = (run, label) => (label === null ? "" : String(data.classes[run.dataset]?.[label] ?? label));
// What stands beside a sample's picture; without one, which sample it is.
const sampleText = (run, sample, label) => {
  const name = labelText(run, label);
  if (data.images[run.dataset]?.[sample]) return name;
  return `sample ${sample}${name && `, label ${name}`}`;
};

const showOutliers = () => {
  const run = chosenRun(), rows = run.outliers[state.step] ?? [], time = timeText(state.step, run);
  const known = Object.keys(run.outliers).length > 0;
  byId("samples-title").textContent = rows.length
    ? `The outliers of largest gradient norm of the network after ${time}`
    : known ? `No outliers by the gradient norm of the network are listed after ${time}` : "";
  byId("samples-note").hidden = !rows.length;
  byId("samples").replaceChildren(...rows.map(([sample, label, loss, norm, ax, correct]) => {
    const title = element("b", { textContent: `${sampleText(run, sample, label)}${correct === false ? " ✗" : ""}` });
    const lines = [["loss", loss], ["norm", norm], ["a_x", ax]].filter(([, value]) => value !== null);
    return element("li", {}, ...picture(run, sample, labelText(run, label)), title,
      ...lines.flatMap(([what, value]) => [`${what} ${number(value)}`, element("br")]));
  }));
};

const showCheckpoint = () => {
  const run = chosenRun(), second = secondRun();
  slider.value = run.steps.indexOf(state.step);
  byId("epoch-shown").value = timeText(state.step, run) + (second ? `, beside it ${timeText(stepOf(second), second)}` : "");
  showHistogram("histogram", run);
  if (second) showHistogram("histogram2", second);
  showFacts();
  showOutliers();
};
