// The axis of time that all charts share: linear, or logarithmic from the first step that was measured, with step 0 before it.
const START = 0.45; // where step 0 is: so many decades before that step

const isLogarithmic = () => state.axis.startsWith("log");
const earliest = () => Math.min(...shownRuns().map((run) => timeOf(run.steps.find((step) => step > 0) ?? 1, run)));
const position = (step, run) => {
  const time = timeOf(step, run);
  if (!isLogarithmic()) return time;
  return time > 0 ? Math.log10(time) : Math.log10(earliest()) - START;
};

// Its ends, and what it labels: the start and powers of ten, or round numbers.
const timeAxis = () => {
  const ends = shownRuns().flatMap((run) => [run.steps[0], run.steps.at(-1)].map((step) => position(step, run)));
  const first = Math.min(...ends), last = Math.max(...ends, first + 1e-9);
  const ticks = isLogarithmic() ? powers(first, last) : rounds(first, last);
  return { first, last, ticks: ticks.map(({ at }) => at), labels: ticks.map(({ text }) => text) };
};
const tickText = (value) => {
  if (value >= 1e6) return `${value / 1e6}M`;
  return value >= 1e4 ? `${value / 1e3}k` : String(Number(value.toPrecision(6)));
};
const powers = (first, last) => {
  const start = Math.log10(earliest()), found = [];
  const between = last - start < 1.2 ? [1, 2, 5] : last - start < 2.5 ? [1, 3] : [1];
  for (let power = Math.floor(start); power <= last; power += 1) for (const digit of between) {
    const at = power + Math.log10(digit);
    if (at >= start - 1e-9 && at <= last + 1e-9) found.push({ at, text: tickText(digit * 10 ** power) });
  }
  return first < start ? [{ at: start - START, text: "0" }, ...found] : found;
};
const rounds = (first, last) => {
  const rough = (last - first) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const width = [1, 2, 5, 10].map((digit) => digit * power).find((width) => width >= rough);
  const found = [];
  for (let at = Math.ceil(first / width - 1e-9) * width; at <= last * (1 + 1e-9); at += width) found.push({ at, text: tickText(at) });
  return found;
};

// Where the column of each step begins and ends: half way to its neighbours.
const columns = (steps, run) => {
  const places = steps.map((step) => position(step, run));
  const between = places.slice(1).map((place, i) => (place + places[i]) / 2);
  return places.map((place, i) => [between[i - 1] ?? place, between[i] ?? place]);
};

const setAxis = (view) => {
  for (const [name, value] of Object.entries(timeAxis())) view.signal(name, value);
  return view;
};
const setHere = (view) => view.data("here", [{ x: position(state.step, chosenRun()) }]);
