import type { ShapeConfig } from "./shapes.js";

/** What this machine's device reaches, measured in the same run (device_peer.py ceilings). */
export interface DeviceCeilings {
  /** Of a copy in device memory, bytes read and written. */
  copyBytesPerSecond: number;
  /** Of a large fp16 matrix product on random data. */
  matrixFlopPerSecond: number;
}

/** What a model of this shape has to read and compute. */
export interface Work {
  /** Parameters of the linears of all layers. */
  linearParameters: number;
  headParameters: number;
  /** fp16 keys and values of a token, all layers. */
  kvBytesPerToken: number;
  /** Of scores and values for one query at one position, all layers. */
  attentionFlopPerPosition: number;
  /** The embedding's, of which a step reads single rows. */
  embeddingBytes: number;
}

const HALF_BYTES = 2;
/** A multiplication and an addition. */
const FLOP = 2;

export function workOf(shape: ShapeConfig): Work {
  const { hidden_size, num_hidden_layers: layers, head_dim } = shape;
  const queries = shape.num_attention_heads * head_dim;
  const keys = shape.num_key_value_heads * head_dim;
  const attention = hidden_size * (2 * queries + 2 * keys);
  const mlp = 3 * hidden_size * shape.intermediate_size;
  const embedding = shape.vocab_size * hidden_size;
  return {
    linearParameters: layers * (attention + mlp),
    headParameters: embedding,
    kvBytesPerToken: layers * 2 * keys * HALF_BYTES,
    attentionFlopPerPosition: layers * 2 * FLOP * queries,
    embeddingBytes: shape.tie_word_embeddings ? 0 : embedding * HALF_BYTES,
  };
}

/**
 * The least time of a decoding step: linears, then attention, each as long as its memory traffic or its arithmetic takes,
 * whichever is longer.
 * @param weightBytes on the device
 * @param context tokens of each sequence
 */
export function decodeFloorSeconds(
  work: Work,
  weightBytes: number,
  batch: number,
  context: number,
  { copyBytesPerSecond, matrixFlopPerSecond }: DeviceCeilings,
): number {
  const parameters = work.linearParameters + work.headParameters;
  const linears = Math.max(
    (weightBytes - work.embeddingBytes) / copyBytesPerSecond,
    (batch * FLOP * parameters) / matrixFlopPerSecond,
  );
  const attention = Math.max(
    (batch * context * work.kvBytesPerToken) / copyBytesPerSecond,
    (batch * context * work.attentionFlopPerPosition) / matrixFlopPerSecond,
  );
  return linears + attention;
}

/** Of `batch` prompts of `length` tokens, causal; the head computes each one's last row. */
export function prefillFlop(work: Work, batch: number, length: number): number {
  const positions = (length * (length + 1)) / 2;
  return (
    batch *
    (length * FLOP * work.linearParameters +
      positions * work.attentionFlopPerPosition +
      FLOP * work.headParameters)
  );
}
