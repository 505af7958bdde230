import { formatBytes, formatCount } from "../format.js";
import {
  bitsPerWeight,
  estimateMemory,
  estimateSpeculation,
} from "./estimate.js";
import type { Figure, MemoryInput, SpeculationInput } from "./estimate.js";

/** What `octavo doctor --estimate` computes; what --json prints. Null: not asked. */
export interface Estimate {
  speculation: { input: SpeculationInput; figures: Figure[] } | null;
  memory: { input: MemoryInput; figures: Figure[] } | null;
}

export function estimate(
  speculation: SpeculationInput | null,
  memory: MemoryInput | null,
): Estimate {
  return {
    speculation: speculation && {
      input: speculation,
      figures: estimateSpeculation(speculation),
    },
    memory: memory && { input: memory, figures: estimateMemory(memory) },
  };
}

export function estimateText({ speculation, memory }: Estimate): string {
  const parts: string[] = [];
  if (speculation)
    parts.push(
      section(
        "Speculation",
        speculationLine(speculation.input),
        speculation.figures,
      ),
    );
  if (memory)
    parts.push(section("Memory", memoryLine(memory.input), memory.figures));
  return parts.join("\n\n");
}

function section(title: string, inputs: string, figures: Figure[]): string {
  const width = Math.max(...figures.map(({ name }) => name.length));
  const values = figures.map((figure) => valueText(figure));
  const valueWidth = Math.max(...values.map(({ length }) => length));
  const lines = figures.map(
    ({ name, formula }, i) =>
      `  ${name.padEnd(width)}  ${(values[i] ?? "").padEnd(valueWidth)}  = ${formula}`,
  );
  return [title, `  ${inputs}`, ...lines].join("\n");
}

function speculationLine({
  acceptance,
  numSpeculativeTokens,
  draftCost,
  rowCost,
}: SpeculationInput): string {
  const given =
    acceptance.kind === "rate"
      ? `r = ${acceptance.value} of the drafted tokens accepted`
      : `a = ${acceptance.value} of the drafts right where those before were`;
  return `${given}, k = ${numSpeculativeTokens} drafts, c = ${draftCost} and v = ${rowCost} plain steps for a draft and for a row`;
}

function memoryLine(input: MemoryInput): string {
  const { packed, dense, embedding } = input.weights;
  const perWeight = bitsPerWeight(input.bits, input.groupSize);
  const group =
    input.groupSize === 0 ? "" : ` in groups of g = ${input.groupSize}`;
  const facts = [
    `n = ${formatCount(packed)} weights of b = ${input.bits} bits${group} (${perWeight.toFixed(3)} each)`,
    `m = ${formatCount(dense)} and e = ${formatCount(embedding)} of 16 bits`,
  ];
  if (input.kvValuesPerToken === null) facts.push(`s = ${input.batchSize}`);
  else
    facts.push(
      `s = ${input.batchSize} sequences of t = ${formatCount(input.contextLen)} tokens`,
      `h = ${formatCount(input.kvValuesPerToken)} values of B = ${input.kvBits} bits a token`,
    );
  if (input.bandwidth !== null) facts.push(`w = ${input.bandwidth / 1e9} GB/s`);
  return facts.join("\n  ");
}

function valueText({ value, unit }: Figure): string {
  switch (unit) {
    case "bytes":
      return formatBytes(value);
    case "seconds":
      return `${(value * 1e3).toPrecision(4)} ms`;
    case "times":
      return `${value.toFixed(2)} x`;
    case "share":
      return `${(value * 100).toFixed(1)} %`;
    case "tokens/s":
      return `${formatCount(value)} tokens/s`;
    case "tokens":
      return `${Number(value.toFixed(2))} tokens`;
    case "steps":
      return `${Number(value.toFixed(3))} steps`;
  }
}
