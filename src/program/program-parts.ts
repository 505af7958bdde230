import type { RopeTable } from "../../models/model-config.js";
import type {
  DensePlan,
  KvLayerPlan,
  LinearPlan,
  RopePlan,
  TensorSource,
} from "./program.js";
import type { ResolvedLinear, WeightResolver } from "./weights.js";

/** The lists of a program, each entry once. Every method returns an index into its list. */
export class ProgramParts {
  readonly dense: DensePlan[] = [];
  readonly linears: LinearPlan[] = [];
  readonly ropes: RopePlan[] = [];
  readonly kvLayers: KvLayerPlan[] = [];
  private readonly denseIndex = new Map<string, number>();
  private readonly ropeIndex = new Map<RopeTable, number>();

  constructor(private readonly weights: WeightResolver) {}

  /** Read in place: only the rows of a step's tokens are touched. */
  embedding(module: string, vocabSize: number, width: number): number {
    return this.addDense(
      module,
      this.weights.embedding(module, vocabSize, width),
      true,
    );
  }

  norm(module: string, width: number): number {
    return this.addDense(module, this.weights.norm(module, width), false);
  }

  /** One layer out of `parts`, which share inputs and scheme. */
  linear(parts: readonly ResolvedLinear[], siluMulPairs: boolean): number {
    const [first] = parts as [ResolvedLinear, ...ResolvedLinear[]];
    const plan: LinearPlan = {
      name: nameOf(parts.map((part) => part.module)),
      scheme: first.scheme,
      k: first.k,
      n: parts.reduce((sum, { part }) => sum + part.n, 0),
      groupSize: first.groupSize,
      zeroOffset: first.zeroOffset,
      siluMulPairs,
      parts: parts.map(({ part }) => part),
    };
    return this.linears.push(plan) - 1;
  }

  rope(table: RopeTable): number {
    const known = this.ropeIndex.get(table);
    if (known !== undefined) return known;
    const { inverseFrequencies, scale, interleaved } = table;
    const index = this.ropes.push({ inverseFrequencies, scale, interleaved });
    this.ropeIndex.set(table, index - 1);
    return index - 1;
  }

  kvLayer(numKvHeads: number, headDim: number): number {
    return this.kvLayers.push({ numKvHeads, headDim }) - 1;
  }

  private addDense(name: string, source: TensorSource, keep: boolean): number {
    const known = this.denseIndex.get(name);
    if (known !== undefined) return known;
    const index = this.dense.push({ name, source, keep }) - 1;
    this.denseIndex.set(name, index);
    return index;
  }
}

/** "model.layers.0.self_attn.{q_proj,k_proj,v_proj}" */
function nameOf(modules: readonly string[]): string {
  const [first = ""] = modules;
  if (modules.length === 1) return first;
  const dot = first.lastIndexOf(".") + 1;
  const prefix = first.slice(0, dot);
  return modules.every((module) => module.startsWith(prefix))
    ? `${prefix}{${modules.map((module) => module.slice(dot)).join(",")}}`
    : modules.join("+");
}
