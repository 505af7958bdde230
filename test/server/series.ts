/** Series of a text exposition by name and labels (base labels left out) -> value. */
export function parseSeries(text: string): Map<string, number> {
  const series = new Map<string, number>();
  for (const line of text.split("\n")) {
    const match = /^([\w:]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (match === null) continue;
    const labels = (match[2] ?? "")
      .split(",")
      .filter((label) => !/^(model_name|engine)=/.test(label) && label !== "");
    const name = `${match[1]}${labels.length > 0 ? `{${labels.join(",")}}` : ""}`;
    series.set(name, Number(match[3]));
  }
  return series;
}
