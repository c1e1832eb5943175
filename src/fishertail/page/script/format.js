// How numbers, times and edges of bins are written.
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
const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;

// A value of an instrument; counts are of so many samples.
const valueText = (value, kind, samples) => {
  if (value === undefined || value === null) return "–";
  if (kind === "share") return `${(100 * value).toFixed(2)} %`;
  if (kind === "count") return samples ? `${whole(value)} of ${whole(samples)}` : whole(value);
  return number(value);
};

const epochText = (step, run) => String(Number((step / run.per_epoch).toPrecision(3)));
const timeText = (step, run) => {
  if (!run.per_epoch) return `step ${whole(step)}`;
  return step % run.per_epoch ? `step ${whole(step)} (epoch ${epochText(step, run)})` : `epoch ${step / run.per_epoch}`;
};

const edgeText = (edge) => {
  if (!Number.isFinite(edge)) return edge < 0 ? "−∞" : "∞";
  const size = Math.abs(edge);
  return (edge < 0 ? "−" : "") + (size >= 0.01 && size < 1e4 ? String(Number(size.toPrecision(3))) : size.toExponential(1));
};

// An element with properties and children: texts or elements.
const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const byId = (id) => document.getElementById(id);
