// Every layer over time: depth downwards, time to the right.
const SHADES = {
  spectrum: { title: "lambda_1", key: "spectrum", powers: true, of: (value) => value },
  near_zero: { title: "share of the samples near 0", key: "ax_statistics", powers: false, of: (value) => value },
  outliers: { title: "share of outliers", key: "outliers", powers: false, of: (value, run) => (run.samples ? value / run.samples : null) },
};

const cellsOf = (run) => {
  const { key, powers: logarithmic, of } = SHADES[state.shade];
  return Object.entries(run.layers).flatMap(([layer, { curves }]) => {
    const { steps, values } = curves[key] ?? { steps: [], values: [] }, sides = columns(steps, run);
    return steps.map((step, i) => ({ step, layer, value: of(values[i], run), x: sides[i][0], x_end: sides[i][1] }))
      .filter(({ value }) => value !== null && (!logarithmic || value > 0))
      .map((cell) => ({ ...cell, shade: logarithmic ? Math.log10(cell.value) : cell.value, value: logarithmic ? number(cell.value) : percent(cell.value) }));
  });
};
const showLayers = () => {
  const cells = shownRuns().map(cellsOf), shades = cells.flat().map(({ shade }) => shade);
  const low = Math.min(...shades, ...(shades.length ? [] : [0])), high = Math.max(...shades, low + 1e-6);
  shownRuns().forEach((run, i) => {
    const name = i ? "depth2" : "depth";
    setHere(setAxis(views[name])).data("cells", cells[i]).data("layers", Object.keys(run.layers).map((layer) => ({ layer })))
      .signal("low", low).signal("high", high).signal("powers", SHADES[state.shade].powers);
    tables[name] = cells[i].map(({ step, layer, value, shade }) => ({ run: run.name, layer, step, [SHADES[state.shade].title]: value, shade }));
    byId(`title-${name}`).textContent = secondRun() ? `${SHADES[state.shade].title}, ${run.name}` : SHADES[state.shade].title;
    byId(`missing-${name}`).textContent = layersMissing(run, cells[i]);
    byId(`box-${name}`).classList.toggle("empty", !cells[i].length);
  });
};
const layersMissing = (run, cells) => {
  if (!cells.length) return "not measured in this run";
  const without = Object.keys(run.layers).filter((layer) => !cells.some((cell) => cell.layer === layer));
  return without.length ? `not measured in ${without.join(", ")}` : "";
};
