// The explorer: which run, layer and epoch are chosen, and what of them is shown.
const data = JSON.parse(document.getElementById("data").textContent);
const charts = JSON.parse(document.getElementById("charts").textContent);
const views = {};
const CHOICES = ["dataset", "model", "batch_size", "seed"];
const byId = (id) => document.getElementById(id);
const slider = byId("epoch");

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const raised = (exponent) => "10" + [...String(exponent)].map((c) => SUPERSCRIPTS[c]).join("");
const number = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (value === 0 || (size >= 0.01 && size < 1e5)) return String(Number(value.toPrecision(4)));
  const [digits, exponent] = value.toExponential(2).split("e");
  return `${digits}·${raised(Number(exponent))}`;
};
const whole = (value) => value.toLocaleString("en");

const fill = (select, values, kept) => {
  select.replaceChildren(...values.map((value) => new Option(value, value)));
  if (values.map(String).includes(kept)) select.value = kept;
};

// The runs that agree with the choices before this one: the grid need not hold every combination.
const offered = (choice) => {
  const earlier = CHOICES.slice(0, CHOICES.indexOf(choice));
  return data.runs.filter((run) => earlier.every((name) => String(run[name]) === byId(name).value));
};
const chosenRun = () => data.runs.find((run) => CHOICES.every((name) => String(run[name]) === byId(name).value));
const chosenLayer = () => chosenRun().layers[byId("layer").value];
const chosenStep = () => chosenLayer().analysed[Number(slider.value)];
const epochText = (step, run) => String(Number((step / run.per_epoch).toPrecision(3)));
const timeText = (step, run) => (step % run.per_epoch ? `step ${whole(step)} (epoch ${epochText(step, run)})` : `epoch ${step / run.per_epoch}`);

// Steps that a time axis labels: the start, and whole powers of ten of an epoch.
const timeTicks = (run) => {
  const last = run.steps[run.steps.length - 1];
  const powers = [0.001, 0.01, 0.1, 1, 10, 100, 1000].map((epochs) => epochs * run.per_epoch);
  return [0, ...powers.filter((step) => step >= 2 && step <= last)];
};

// Counts of one checkpoint by bin: the first bin that is not empty comes before them.
const counts = ([first, ...values]) => values.map((count, i) => [first + i, count]).filter(([, count]) => count > 0);

const edgeText = (edge) => {
  if (!Number.isFinite(edge)) return edge < 0 ? "−∞" : "∞";
  const size = Math.abs(edge);
  return (edge < 0 ? "−" : "") + (size >= 0.01 && size < 1e4 ? String(Number(size.toPrecision(3))) : size.toExponential(1));
};
const edges = data.edges.map((edge) => (edge === "-inf" ? -Infinity : edge === "inf" ? Infinity : edge));
const power = (edge) => (edge < 0 ? "−" : "") + raised(Math.round(Math.log10(Math.abs(edge))));

// Of the bins any checkpoint uses: the span, the smallest share, and where whole powers of ten are.
const extentOf = (layer) => {
  const all = layer.counts.flatMap(counts);
  const bins = all.map(([bin]) => bin);
  const first = Math.min(...bins) - 1, last = Math.max(...bins) + 2;
  const samples = all.length ? layer.counts[0].slice(1).reduce((sum, count) => sum + count, 0) : 1;
  const floor = 0.5 / samples;
  const middle = edges.findIndex((edge, i) => edge < 0 && edges[i + 1] > 0);
  const step = (last - first > 60 ? 2 : 1) * (window.innerWidth < 600 ? 2 : 1);
  const ticks = edges
    .map((edge, bin) => ({ edge, bin, exponent: Math.log10(Math.abs(edge)) }))
    .filter(({ edge, bin, exponent }) => Number.isFinite(edge) && bin > first && bin < last && Math.abs(bin - middle) > 2
      && Math.abs(exponent - Math.round(exponent)) < 1e-6 && Math.round(exponent) % step === 0)
    .map(({ edge, bin }) => ({ bin, floor, text: power(edge) }));
  if (middle > first && middle < last) ticks.push({ bin: middle + 0.5, floor, text: "0" });
  return { samples, floor, ticks, corners: [{ bin: first, share: floor }, { bin: last, share: 1 }] };
};

const showRun = () => {
  const run = chosenRun(), layer = chosenLayer();
  slider.max = layer.analysed.length - 1;
  const points = (steps, values) => steps
    .map((step, i) => ({ step, epoch: step / run.per_epoch, value: values[i] })).filter(({ value }) => value !== null);
  const curves = { validation_loss: points(run.steps, run.validation_loss) };
  for (const name of Object.keys(data.panels)) {
    const { steps, values } = layer.curves[name];
    const logarithmic = JSON.stringify(charts[name]).includes('"type":"log"');
    curves[name] = points(steps, values).filter(({ value }) => !logarithmic || value > 0);
  }
  for (const [name, rows] of Object.entries(curves))
    views[name].data("curve", rows).data("minimum", [{ step: run.minimum }])
      .signal("ticks", timeTicks(run)).signal("per_epoch", run.per_epoch);
  const extent = extentOf(layer);
  views.histogram.data("extent", extent.corners).data("ticks", extent.ticks);
  byId("passed").textContent = run.passed
    ? `Lowest validation loss: after ${timeText(run.minimum, run)} (dashed).`
    : `The validation loss was lowest after ${timeText(run.minimum, run)} (dashed), and the run stopped early: it may fall further.`;
  showStep();
};

const showStep = () => {
  const run = chosenRun(), layer = chosenLayer(), position = Number(slider.value), step = chosenStep();
  const { samples, floor } = extentOf(layer);
  const at = (steps, values) => values[steps.indexOf(step)];
  views.histogram.data("bins", counts(layer.counts[position]).map(([bin, count]) => ({
    bin, bin_end: bin + 1, share: count / samples, floor, count, label: `${edgeText(edges[bin])} to ${edgeText(edges[bin + 1])}`,
  })));
  for (const [name, view] of Object.entries(views)) {
    if (name !== "histogram") view.signal("step", step);
    view.runAsync();
  }
  byId("epoch-shown").value = timeText(step, run);
  const facts = {};
  for (const [name, { title, counts: whole_numbers }] of Object.entries(data.panels)) {
    const value = at(layer.curves[name].steps, layer.curves[name].values);
    if (whole_numbers) facts[`${title}, ${byId("layer").value}`] = value === undefined ? "–" : `${whole(value)} of ${whole(samples)}`;
    else facts[title] = number(value) + (name === "spectrum" && !layer.converged[position] ? " (not converged)" : "");
  }
  facts["validation loss"] = number(at(run.steps, run.validation_loss));
  facts["validation accuracy"] = `${(100 * at(run.steps, run.validation_accuracy)).toFixed(2)} %`;
  const summary = Object.entries(facts).map(([name, value]) => `${name} ${value}`).join(", ");
  slider.setAttribute("aria-valuetext", `${timeText(step, run)}: ${summary}`);
  byId("chart-histogram").setAttribute("aria-label", `Distribution of a_x over all training samples after ${timeText(step, run)}: ${summary}`);
  byId("facts").replaceChildren(...Object.entries(facts).map(([name, value]) => {
    const fact = document.createElement("div");
    const term = document.createElement("dt"), shown = document.createElement("dd");
    term.textContent = name; shown.textContent = value; fact.append(term, shown);
    return fact;
  }));
  showSamples(run, step);
};

const showSamples = (run, step) => {
  const rows = run.samples[step] ?? [], names = data.classes[run.dataset];
  byId("samples-title").textContent = rows.length
    ? `The outliers of largest gradient norm of the network after ${timeText(step, run)}`
    : `No outliers by the gradient norm of the network after ${timeText(step, run)}`;
  byId("samples").replaceChildren(...rows.map(([sample, label, loss, norm, ax, correct]) => {
    const item = document.createElement("li"), image = new Image(), title = document.createElement("b");
    const name = names ? names[label] : label;
    image.src = data.images[run.dataset][sample];
    image.alt = `training sample ${sample}, labelled ${name}`;
    image.title = `training sample ${sample}`;
    title.textContent = `${name}${correct ? "" : " ✗"}`;
    item.append(image, title, `loss ${number(loss)}`, document.createElement("br"), `norm ${number(norm)}`,
      document.createElement("br"), `a_x ${number(ax)}`);
    return item;
  }));
};

// After a choice, what depends on it: later choices are kept where they are still offered.
const choose = (from) => {
  for (const name of CHOICES.slice(from)) {
    const kept = byId(name).value;
    fill(byId(name), [...new Set(offered(name).map((run) => run[name]))], kept);
  }
  const run = chosenRun(), kept = byId("layer").value;
  const layers = Object.keys(run.layers);
  fill(byId("layer"), layers, layers.includes(kept) ? kept : run.figure_layer);
  const wanted = shownEpoch === null ? run.minimum : shownEpoch * run.per_epoch;
  const analysed = chosenLayer().analysed;
  slider.max = analysed.length - 1;
  slider.value = analysed.reduce((best, step, i) => Math.abs(step - wanted) < Math.abs(analysed[best] - wanted) ? i : best, 0);
  showRun();
};

let shownEpoch = null;
const start = async () => {
  for (const [name, spec] of Object.entries(charts)) {
    // only errors are logged: a chart warns of having no data before `choose` fills it
    const result = await vegaEmbed(byId(`chart-${name}`), spec, { actions: false, renderer: "svg", logLevel: 1 });
    views[name] = result.view;
  }
  CHOICES.forEach((name, i) => byId(name).addEventListener("change", () => choose(i + 1)));
  byId("layer").addEventListener("change", () => choose(CHOICES.length));
  slider.addEventListener("input", () => { shownEpoch = chosenStep() / chosenRun().per_epoch; showStep(); });
  choose(0);
  document.body.dataset.ready = "true";
};
if (data.runs.length) start(); else byId("explorer").hidden = true;
