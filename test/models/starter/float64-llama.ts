/**
 * A Llama in float64 and plain loops, written from the paper's formulas and Hugging Face's names, sharing nothing with
 * the engine: reads float16 safetensors and config.json itself.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";

interface Config {
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  rms_norm_eps: number;
  rope_theta: number;
  vocab_size: number;
}

/** [rows, columns], row after row. */
interface Matrix {
  rows: number;
  columns: number;
  data: Float64Array;
}

export class Float64Llama {
  private readonly config: Config;
  private readonly tensors: Map<string, Matrix>;
  /** Per layer, the keys and values of the tokens so far. */
  private readonly keys: Float64Array[][];
  private readonly values: Float64Array[][];
  private position = 0;

  constructor(directory: string) {
    this.config = JSON.parse(
      readFileSync(join(directory, "config.json"), "utf8"),
    ) as Config;
    this.tensors = readTensors(join(directory, "model.safetensors"));
    const layers = Array.from({ length: this.config.num_hidden_layers });
    this.keys = layers.map(() => []);
    this.values = layers.map(() => []);
  }

  /** Logits [vocab_size] after one more token. */
  next(token: number): Float64Array {
    const { hidden_size: hidden, num_hidden_layers } = this.config;
    const embedding = this.tensor("model.embed_tokens");
    const x = embedding.data.slice(token * hidden, (token + 1) * hidden);
    for (let layer = 0; layer < num_hidden_layers; layer++) {
      const name = `model.layers.${layer}`;
      add(x, this.attention(layer, this.norm(x, `${name}.input_layernorm`)));
      const h = this.norm(x, `${name}.post_attention_layernorm`);
      const gate = times(this.tensor(`${name}.mlp.gate_proj`), h);
      const up = times(this.tensor(`${name}.mlp.up_proj`), h);
      const inner = gate.map(
        (g, i) => (g / (1 + Math.exp(-g))) * (up[i] ?? NaN),
      );
      add(x, times(this.tensor(`${name}.mlp.down_proj`), inner));
    }
    this.position++;
    return times(embedding, this.norm(x, "model.norm"));
  }

  private attention(layer: number, h: Float64Array): Float64Array {
    const {
      head_dim,
      num_attention_heads: heads,
      num_key_value_heads,
    } = this.config;
    const name = `model.layers.${layer}.self_attn`;
    const q = this.rotated(times(this.tensor(`${name}.q_proj`), h));
    const keys = this.keys[layer] ?? [];
    const values = this.values[layer] ?? [];
    keys.push(this.rotated(times(this.tensor(`${name}.k_proj`), h)));
    values.push(times(this.tensor(`${name}.v_proj`), h));
    const out = new Float64Array(heads * head_dim);
    for (let head = 0; head < heads; head++) {
      const kv = Math.floor(head / (heads / num_key_value_heads)) * head_dim;
      const scores = keys.map((key) => {
        let sum = 0;
        for (let i = 0; i < head_dim; i++)
          sum += (q[head * head_dim + i] ?? NaN) * (key[kv + i] ?? NaN);
        return sum / Math.sqrt(head_dim);
      });
      const most = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - most));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      values.forEach((value, t) => {
        for (let i = 0; i < head_dim; i++)
          out[head * head_dim + i]! +=
            ((weights[t] ?? NaN) / total) * (value[kv + i] ?? NaN);
      });
    }
    return times(this.tensor(`${name}.o_proj`), out);
  }

  /** Rotary embedding of each head, first half against second half. */
  private rotated(x: Float64Array): Float64Array {
    const { head_dim, rope_theta } = this.config;
    const half = head_dim / 2;
    return x.map((value, index) => {
      const i = index % head_dim;
      const angle =
        this.position * rope_theta ** ((-2 * (i % half)) / head_dim);
      const other =
        i < half ? -(x[index + half] ?? NaN) : (x[index - half] ?? NaN);
      return value * Math.cos(angle) + other * Math.sin(angle);
    });
  }

  private norm(x: Float64Array, name: string): Float64Array {
    const weight = this.tensor(name).data;
    const square = x.reduce((sum, value) => sum + value * value, 0) / x.length;
    const scale = 1 / Math.sqrt(square + this.config.rms_norm_eps);
    return x.map((value, i) => value * scale * (weight[i] ?? NaN));
  }

  private tensor(name: string): Matrix {
    const tensor = this.tensors.get(`${name}.weight`);
    if (!tensor) throw new Error(`no tensor ${name}.weight`);
    return tensor;
  }
}

function times({ rows, columns, data }: Matrix, x: Float64Array): Float64Array {
  const out = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    let sum = 0;
    for (let i = 0; i < columns; i++)
      sum += (data[row * columns + i] ?? NaN) * (x[i] ?? NaN);
    out[row] = sum;
  }
  return out;
}

function add(x: Float64Array, y: Float64Array): void {
  y.forEach((value, i) => (x[i]! += value));
}

function readTensors(path: string): Map<string, Matrix> {
  const file = readFileSync(path);
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, start)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, Matrix>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    if (entry.dtype !== "F16")
      throw new Error(`${name}: expected F16, got ${entry.dtype}`);
    const [from, to] = entry.data_offsets;
    const data = new Float64Array((to - from) / 2);
    for (let i = 0; i < data.length; i++)
      data[i] = half(file.readUInt16LE(start + from + 2 * i));
    const [rows = 0, columns = 1] = entry.shape;
    tensors.set(name, { rows, columns, data });
  }
  return tensors;
}

/** IEEE 754 binary16 -> number. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent === 0
    ? sign * fraction * 2 ** -24
    : sign * (1024 + fraction) * 2 ** (exponent - 25);
}
