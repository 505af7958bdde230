import type {
  CheckpointTensor,
  LinearQuantization,
  Quantization,
} from "../../models/checkpoint.js";
import type { LinearNode } from "../../models/graph.js";
import { OctavoError } from "../core/errors.js";
import type {
  DTypeName,
  LinearPartPlan,
  LinearScheme,
  TensorSource,
} from "./program.js";

/** Where weights come from: a checkpoint's tensors, or numbers made up in the shapes that the model needs. */
export type WeightSource =
  | { kind: "checkpoint"; tensors: ReadonlyMap<string, CheckpointTensor> }
  | { kind: "dummy"; dtype: "f32" | "f16" | "bf16" };

/** One linear of the graph with its weights found and checked; what may be fused has the same `key`. */
export interface ResolvedLinear {
  module: string;
  scheme: LinearScheme;
  k: number;
  groupSize: number;
  zeroOffset: number;
  part: LinearPartPlan;
  key: string;
}

const FLOAT_DTYPES: Readonly<Record<string, DTypeName>> = {
  F32: "f32",
  F16: "f16",
  BF16: "bf16",
};
const INT_DTYPES: Readonly<Record<string, DTypeName>> = { I32: "i32" };

/** Uniform numbers in mean +- spread. */
interface Dummy {
  mean: number;
  spread: number;
}

/** Tensors that checkpoints carry although no model here computes with them. */
const KNOWN_EXTRAS = [
  /\.rotary_emb\.inv_freq$/, // computed from config.json
  /\.g_idx$/, // k / groupSize without act-order
  /\.weight_shape$/, // known from config.json
  /\.qzeros$/, // symmetric GPTQ: 8
];

/**
 * Finds the tensors that modules need and checks dtype and shape before anything uses them.
 * Errors: `invalid_model` naming tensor, expected and what came.
 */
export class WeightResolver {
  private readonly used = new Set<string>();

  constructor(
    private readonly source: WeightSource,
    private readonly quantization: Quantization,
  ) {}

  /** A norm's weight [width]. */
  norm(module: string, width: number): TensorSource {
    return this.floats(`${module}.weight`, [width], { mean: 1, spread: 0.1 });
  }

  /** An embedding [vocabSize, width]. */
  embedding(module: string, vocabSize: number, width: number): TensorSource {
    const spread = 1 / Math.sqrt(width);
    return this.floats(`${module}.weight`, [vocabSize, width], {
      mean: 0,
      spread,
    });
  }

  linear(node: LinearNode): ResolvedLinear {
    const { module, tiedTo } = node;
    const quantized =
      tiedTo === null ? this.quantization.schemeOf(module) : null;
    const resolved = quantized
      ? this.int4(node, quantized)
      : this.dense(node, tiedTo ?? module);
    resolved.part.bias = this.bias(node, quantized);
    return resolved;
  }

  /**
   * What the checkpoint holds beyond the model is refused: a config with too few layers, or a bias or norm that this
   * architecture does not have, would otherwise load and answer nonsense.
   */
  refuseUnused(tiedModules: readonly string[]): void {
    if (this.source.kind === "dummy") return;
    const expected = (name: string): boolean =>
      this.used.has(name) ||
      KNOWN_EXTRAS.some((extra) => extra.test(name)) ||
      tiedModules.some((module) => name === `${module}.weight`);
    const unused = [...this.source.tensors.keys()].filter((t) => !expected(t));
    if (unused.length > 0)
      throw new OctavoError(
        "invalid_model",
        `the checkpoint holds ${unused.length} tensors that this model does not use: ${unused.slice(0, 3).join(", ")}${unused.length > 3 ? ", ..." : ""}. Expected: config.json and architecture that fit the checkpoint.`,
        unused[0] ?? null,
      );
  }

  private dense(node: LinearNode, module: string): ResolvedLinear {
    const k = node.in.width;
    const n = node.out.width;
    const weight = this.floats(`${module}.weight`, [n, k], {
      mean: 0,
      spread: 1 / Math.sqrt(k),
    });
    return {
      module: node.module,
      scheme: "dense",
      k,
      groupSize: 0,
      zeroOffset: 0,
      part: { n, weight, scales: null, zeros: null, bias: null },
      key: `dense ${node.in.id}`,
    };
  }

  private int4(node: LinearNode, q: LinearQuantization): ResolvedLinear {
    const k = node.in.width;
    const n = node.out.width;
    const groupSize = q.groupSize === 0 ? k : q.groupSize;
    checkDivides(node.module, "inputs", k, "group size", groupSize);
    const tensors = this.int4Tensors(node.module, q, k, n, k / groupSize);
    return {
      module: node.module,
      scheme: q.scheme,
      k,
      groupSize,
      zeroOffset: q.zeroOffset,
      part: { n, ...tensors, bias: null },
      key: `${q.scheme} ${groupSize} ${q.zeroOffset} ${q.symmetric} ${node.in.id}`,
    };
  }

  /** Layouts: LinearPart in kernels/ops.h. */
  private int4Tensors(
    module: string,
    { scheme, symmetric }: LinearQuantization,
    k: number,
    n: number,
    groups: number,
  ): Pick<LinearPartPlan, "weight" | "scales" | "zeros"> {
    const ints = (suffix: string, shape: number[]): TensorSource =>
      this.tensor(`${module}.${suffix}`, shape, INT_DTYPES, null);
    const scales = (suffix: string, shape: number[]): TensorSource =>
      this.floats(`${module}.${suffix}`, shape, dummyScale(k, symmetric));
    if (scheme === "compressed-int4")
      return {
        weight: ints("weight_packed", [n, Math.ceil(k / 8)]),
        scales: scales("weight_scale", [n, groups]),
        zeros: symmetric
          ? null
          : ints("weight_zero_point", [Math.ceil(n / 8), groups]),
      };
    const awq = scheme === "awq-int4";
    if (awq || !symmetric) checkDivides(module, "outputs", n, "packing", 8);
    if (!awq) checkDivides(module, "inputs", k, "packing", 8);
    return {
      weight: ints("qweight", awq ? [k, n / 8] : [k / 8, n]),
      scales: scales("scales", [groups, n]),
      zeros: symmetric ? null : ints("qzeros", [groups, n / 8]),
    };
  }

  /** GPTQ's quantizers also store biases (of zeros) where the architecture has none. */
  private bias(
    node: LinearNode,
    quantized: LinearQuantization | null,
  ): TensorSource | null {
    const name = `${node.module}.bias`;
    const stored =
      this.source.kind === "checkpoint" && this.source.tensors.has(name);
    if (node.bias || (stored && quantized?.scheme === "gptq-int4"))
      return this.floats(name, [node.out.width], { mean: 0, spread: 0.1 });
    return null;
  }

  private floats(name: string, shape: number[], dummy: Dummy): TensorSource {
    return this.tensor(name, shape, FLOAT_DTYPES, dummy);
  }

  private tensor(
    name: string,
    shape: number[],
    dtypes: Readonly<Record<string, DTypeName>>,
    dummy: Dummy | null,
  ): TensorSource {
    this.used.add(name);
    if (this.source.kind === "dummy") {
      const made = { name, file: -1, offset: 0, shape };
      return dummy
        ? { ...made, dtype: this.source.dtype, dummy }
        : { ...made, dtype: "i32" };
    }
    const found = this.source.tensors.get(name);
    const expected = `${Object.keys(dtypes).join(", ")} [${shape.join(", ")}]`;
    if (!found) throw tensorError(name, expected, "no such tensor");
    const dtype = Object.hasOwn(dtypes, found.dtype)
      ? dtypes[found.dtype]
      : undefined;
    if (!dtype || !sameShape(found.shape, shape))
      throw tensorError(
        name,
        expected,
        `${found.dtype} [${found.shape.join(", ")}]`,
      );
    return { name, file: found.file, offset: found.offset, dtype, shape };
  }
}

function tensorError(
  name: string,
  expected: string,
  came: string,
): OctavoError {
  return new OctavoError(
    "invalid_model",
    `tensor ${name}: expected ${expected} by config.json, got ${came}`,
    name,
  );
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

function checkDivides(
  module: string,
  what: string,
  count: number,
  by: string,
  divisor: number,
): void {
  if (count % divisor !== 0)
    throw new OctavoError(
      "invalid_model",
      `${module}: expected a number of ${what} that its ${by} (${divisor}) divides, got ${count}`,
      module,
    );
}

/**
 * Scales that give uniform 4-bit numbers the standard deviation 1 / sqrt(3 k) of a dense dummy: q - z deviates by 4.6
 * around a fixed zero and by 6.5 around a random one.
 */
function dummyScale(k: number, symmetric: boolean): Dummy {
  const mean = 1 / Math.sqrt(3 * k) / (symmetric ? 4.6 : 6.5);
  return { mean, spread: mean / 4 };
}
