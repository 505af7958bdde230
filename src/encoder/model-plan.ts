/** How an ONNX graph is fed and read, decided once from the names and shapes of its inputs and outputs. */
import { OctavoError } from "../core/errors.js";
import type { EncoderFiles } from "./encoder-files.js";

/** An input or output of the graph; a dimension is a number where it is fixed, else a name. */
export interface Tensor {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly (number | string)[];
}

/** The inputs that are known; all but the first are given only to graphs that have them. */
const INPUTS = [
  "input_ids",
  "attention_mask",
  "token_type_ids",
  "position_ids",
] as const;
export type InputName = (typeof INPUTS)[number];

const INTEGERS = ["int64", "int32"] as const;
const FLOATS = ["float32", "float16"] as const;
/** What a decoder would keep of tokens before; an encoder made of one has none. */
const PAST = /^past_key_values\.\d+\.(key|value)$/;

export interface ModelPlan {
  readonly kind: "embedding" | "cross-encoder";
  readonly inputs: readonly {
    readonly name: InputName;
    readonly type: (typeof INTEGERS)[number];
  }[];
  /** Inputs that stay empty: [batch, heads, 0, head dim]. */
  readonly past: readonly {
    readonly name: string;
    readonly type: (typeof FLOATS)[number];
    readonly heads: number;
    readonly headDim: number;
  }[];
  readonly output: string;
  /** Whether the output is of the tokens, [batch, length, width], or pooled, [batch, width]; float32 or float16. */
  readonly pooled: boolean;
  readonly fixedBatch: number | null;
  readonly fixedLength: number | null;
  readonly canPad: boolean;
}

/** Errors: `unsupported_model` naming the input or output. */
export function planModel(
  files: EncoderFiles,
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
): ModelPlan {
  const fail = (problem: string): OctavoError =>
    new OctavoError(
      "unsupported_model",
      `${files.modelFile}: ${problem}`,
      files.modelFile,
    );
  const past = inputs.filter(({ name }) => PAST.test(name));
  const others = inputs.filter((input) => !past.includes(input));
  const known = others.map(({ name, type, shape }) => {
    const known = INPUTS.find((input) => input === name);
    if (known === undefined)
      throw fail(`input ${name}: expected only ${INPUTS.join(", ")}`);
    const integers = INTEGERS.find((integer) => integer === type);
    if (integers === undefined || shape.length !== 2)
      throw fail(
        `input ${name}: expected integers [batch, length], got ${describe(type, shape)}`,
      );
    return { name: known, type: integers, shape };
  });
  const ids = known.find(({ name }) => name === "input_ids");
  if (ids === undefined) throw fail("expected an input input_ids");
  const fixed = (axis: number): number | null => {
    const size = ids.shape[axis];
    return typeof size === "number" ? size : null;
  };
  const plan = {
    ...chooseOutput(files, outputs, fail),
    inputs: known.map(({ name, type }) => ({ name, type })),
    past: past.map((tensor) => planPast(tensor, fail)),
    fixedBatch: fixed(0),
    fixedLength: fixed(1),
    canPad: known.some(({ name }) => name === "attention_mask"),
  };
  if (plan.fixedLength !== null && !plan.canPad)
    throw fail("a fixed length needs an input attention_mask, to pad to it");
  return plan;
}

function planPast(
  { name, type, shape }: Tensor,
  fail: (problem: string) => OctavoError,
): ModelPlan["past"][number] {
  const float = FLOATS.find((known) => known === type);
  const [, heads, , headDim] = shape;
  if (
    float !== undefined &&
    shape.length === 4 &&
    typeof heads === "number" &&
    typeof headDim === "number"
  )
    return { name, type: float, heads, headDim };
  throw fail(
    `input ${name}: expected ${FLOATS.join(" or ")} [batch, a number of heads, past length, a head dim], got ${describe(type, shape)}`,
  );
}

/** The names that exporters give, in the order in which they say most. */
function chooseOutput(
  files: EncoderFiles,
  outputs: readonly Tensor[],
  fail: (problem: string) => OctavoError,
): Pick<ModelPlan, "kind" | "output" | "pooled"> {
  const find = (...names: string[]): Tensor | undefined =>
    names
      .map((name) => outputs.find((output) => output.name === name))
      .find((output) => output !== undefined);
  const whole = find("sentence_embedding");
  const logits = find("logits");
  const output =
    whole ??
    find("last_hidden_state", "token_embeddings") ??
    logits ??
    find("pooler_output") ??
    (outputs.length === 1 ? outputs[0] : undefined);
  const names = outputs.map(({ name }) => name).join(", ");
  if (output === undefined)
    throw fail(
      `expected an output sentence_embedding, last_hidden_state, token_embeddings, logits or pooler_output, got ${names}`,
    );
  const { type, shape } = output;
  const pooled = shape.length === 2;
  if (
    !FLOATS.some((float) => float === type) ||
    !(pooled || shape.length === 3)
  )
    throw fail(
      `output ${output.name}: expected ${FLOATS.join(" or ")} [batch, width] or [batch, length, width], got ${describe(type, shape)}`,
    );
  if (output === logits) return readLogits(logits, fail);
  // A graph that ends in a sentence's embedding has all steps in it.
  const [other] = files.otherModules;
  if (output !== whole && other !== undefined)
    throw fail(
      `modules.json has a step ${other}, which is built only where the graph has it (an output sentence_embedding); this one has ${names}`,
    );
  return { kind: "embedding", output: output.name, pooled };
}

function readLogits(
  { name, type, shape }: Tensor,
  fail: (problem: string) => OctavoError,
): Pick<ModelPlan, "kind" | "output" | "pooled"> {
  const labels = shape[1];
  if (shape.length !== 2 || (typeof labels === "number" && labels !== 1))
    throw fail(
      `output ${name}: expected one logit for an input, [batch, 1], got ${describe(type, shape)}: neither an encoder nor a cross-encoder with num_labels 1`,
    );
  return { kind: "cross-encoder", output: name, pooled: true };
}

function describe(type: string, shape: readonly (number | string)[]): string {
  return `${type} [${shape.join(", ")}]`;
}
