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
const chosenEpoch = () => chosenLayer().analysed[Number(slider.value)];

// Counts of one epoch by bin: the first bin that is not empty comes before them.
const counts = ([first, ...values]) => values.map((count, i) => [first + i, count]).filter(([, count]) => count > 0);

const edgeText = (edge) => {
  if (!Number.isFinite(edge)) return edge < 0 ? "−∞" : "∞";
  const size = Math.abs(edge);
  return (edge < 0 ? "−" : "") + (size >= 0.01 && size < 1e4 ? String(Number(size.toPrecision(3))) : size.toExponential(1));
};
const edges = data.edges.map((edge) => (edge === "-inf" ? -Infinity : edge === "inf" ? Infinity : edge));
const power = (edge) => (edge < 0 ? "−" : "") + raised(Math.round(Math.log10(Math.abs(edge))));

// Of the bins any epoch uses: the span, the smallest share, and where whole powers of ten are.
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
  const points = (epochs, values) =>
    epochs.map((epoch, i) => ({ epoch, value: values[i] })).filter(({ value }) => value !== null);
  const curves = {
    lambda_1: points(layer.analysed, layer.lambda_1).filter(({ value }) => value > 0),
    outliers: points(layer.count_epochs, layer.outliers),
    validation_loss: points(run.epochs, run.validation_loss),
  };
  for (const [name, rows] of Object.entries(curves))
    views[name].data("curve", rows).data("minimum", [{ epoch: run.minimum }]);
  const extent = extentOf(layer);
  views.histogram.data("extent", extent.corners).data("ticks", extent.ticks);
  byId("passed").textContent = run.passed
    ? `Lowest validation loss: after epoch ${run.minimum} (dashed).`
    : `The validation loss was lowest after the last epoch, ${run.minimum} (dashed): it may fall further, this run ended too early.`;
  showEpoch();
};

const showEpoch = () => {
  const run = chosenRun(), layer = chosenLayer(), position = Number(slider.value), epoch = chosenEpoch();
  const { samples, floor } = extentOf(layer);
  const at = (epochs, values) => values[epochs.indexOf(epoch)];
  views.histogram.data("bins", counts(layer.counts[position]).map(([bin, count]) => ({
    bin, bin_end: bin + 1, share: count / samples, floor, count, label: `${edgeText(edges[bin])} to ${edgeText(edges[bin + 1])}`,
  })));
  for (const [name, view] of Object.entries(views)) {
    if (name !== "histogram") view.signal("epoch", epoch);
    view.runAsync();
  }
  byId("epoch-shown").value = `epoch ${epoch}`;
  const outliers = at(layer.count_epochs, layer.outliers);
  const facts = {
    "lambda_1": number(layer.lambda_1[position]) + (layer.converged[position] ? "" : " (not converged)"),
    [`outliers, ${byId("layer").value}`]: outliers === undefined ? "–" : `${whole(outliers)} of ${whole(samples)}`,
    "validation loss": number(at(run.epochs, run.validation_loss)),
    "validation accuracy": `${(100 * at(run.epochs, run.validation_accuracy)).toFixed(2)} %`,
  };
  const told = Object.entries(facts).map(([name, value]) => `${name} ${value}`).join(", ");
  slider.setAttribute("aria-valuetext", `epoch ${epoch}: ${told}`);
  byId("chart-histogram").setAttribute("aria-label", `Distribution of a_x over all training samples after epoch ${epoch}: ${told}`);
  byId("facts").replaceChildren(...Object.entries(facts).map(([name, value]) => {
    const fact = document.createElement("div");
    const term = document.createElement("dt"), told = document.createElement("dd");
    term.textContent = name; told.textContent = value; fact.append(term, told);
    return fact;
  }));
  showSamples(run, epoch);
};

const showSamples = (run, epoch) => {
  const rows = run.samples[epoch] ?? [], names = data.classes[run.dataset];
  byId("samples-title").textContent = rows.length
    ? `The outliers of largest gradient norm of the network after epoch ${epoch}`
    : `No outliers by the gradient norm of the network after epoch ${epoch}`;
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
  const wanted = shownEpoch ?? run.minimum;
  const analysed = chosenLayer().analysed;
  slider.max = analysed.length - 1;
  slider.value = analysed.reduce((best, epoch, i) => Math.abs(epoch - wanted) < Math.abs(analysed[best] - wanted) ? i : best, 0);
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
  slider.addEventListener("input", () => { shownEpoch = chosenEpoch(); showEpoch(); });
  choose(0);
  document.body.dataset.ready = "true";
};
if (data.runs.length) start();
