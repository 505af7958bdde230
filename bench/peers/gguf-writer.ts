import { closeSync, openSync, writeSync } from "node:fs";

/** ggml's type numbers (ggml.h) with the bytes of a block of so many values. */
const TYPES = {
  F32: { id: 0, blockSize: 1, blockBytes: 4 },
  F16: { id: 1, blockSize: 1, blockBytes: 2 },
  /** 32 values: an f16 scale, then 16 bytes of nibbles. */
  Q4_0: { id: 2, blockSize: 32, blockBytes: 18 },
} as const;

export interface GgufTensor {
  name: string;
  type: keyof typeof TYPES;
  /** As ggml has them: the fastest dimension first. */
  dimensions: number[];
}

export type GgufValue =
  | { type: "u32" | "f32"; value: number }
  | { type: "string"; value: string }
  | { type: "strings"; value: readonly string[] }
  | { type: "i32s" | "f32s"; value: readonly number[] };

const MAGIC = "GGUF";
const VERSION = 3;
const ALIGNMENT = 32;
const VALUE_TYPES = { u32: 4, i32: 5, f32: 6, string: 8, array: 9 } as const;

/**
 * Writes a GGUF file (the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): the header first, then the
 * tensors' data in the order in which they were declared.
 */
export class GgufWriter {
  private readonly file: number;
  private position = 0;

  constructor(
    path: string,
    metadata: Readonly<Record<string, GgufValue>>,
    private readonly tensors: readonly GgufTensor[],
  ) {
    this.file = openSync(path, "w");
    this.put(header(metadata, tensors));
    this.pad();
  }

  private next = 0;
  private written = 0;

  /** The next bytes of the tensor that is due; a tensor may come in pieces. */
  write(name: string, data: Uint8Array): void {
    const tensor = this.tensors[this.next];
    if (tensor?.name !== name)
      throw new Error(`${tensor?.name ?? "nothing"} is due, not ${name}`);
    this.put(data);
    this.written += data.length;
    if (this.written < bytesOf(tensor)) return;
    if (this.written > bytesOf(tensor)) throw new Error(`${name} is too long`);
    this.pad();
    this.next++;
    this.written = 0;
  }

  /** Throws where a tensor is missing. */
  finish(): void {
    closeSync(this.file);
    const missing = this.tensors[this.next];
    if (missing) throw new Error(`${missing.name} was not written`);
  }

  private put(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;)
      done += writeSync(this.file, bytes, done);
    this.position += bytes.length;
  }

  private pad(): void {
    const rest = -this.position & (ALIGNMENT - 1);
    this.put(new Uint8Array(rest));
  }
}

function bytesOf({ type, dimensions }: GgufTensor): number {
  const { blockSize, blockBytes } = TYPES[type];
  return (dimensions.reduce((a, b) => a * b, 1) / blockSize) * blockBytes;
}

function header(
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
): Uint8Array {
  const out = new Bytes();
  out.push(Buffer.from(MAGIC));
  out.u32(VERSION);
  out.u64(tensors.length);
  out.u64(Object.keys(metadata).length);
  for (const [key, entry] of Object.entries(metadata)) {
    out.text(key);
    putValue(out, entry);
  }
  let offset = 0;
  for (const tensor of tensors) {
    out.text(tensor.name);
    out.u32(tensor.dimensions.length);
    for (const dimension of tensor.dimensions) out.u64(dimension);
    out.u32(TYPES[tensor.type].id);
    out.u64(offset);
    offset += Math.ceil(bytesOf(tensor) / ALIGNMENT) * ALIGNMENT;
  }
  return out.join();
}

function putValue(out: Bytes, entry: GgufValue): void {
  switch (entry.type) {
    case "u32":
      out.u32(VALUE_TYPES.u32);
      return out.u32(entry.value);
    case "f32":
      out.u32(VALUE_TYPES.f32);
      return out.numbers(Float32Array.of(entry.value));
    case "string":
      out.u32(VALUE_TYPES.string);
      return out.text(entry.value);
    case "strings":
      out.array(VALUE_TYPES.string, entry.value.length);
      return entry.value.forEach((value) => out.text(value));
    case "i32s":
      out.array(VALUE_TYPES.i32, entry.value.length);
      return out.numbers(Int32Array.from(entry.value));
    case "f32s":
      out.array(VALUE_TYPES.f32, entry.value.length);
      return out.numbers(Float32Array.from(entry.value));
  }
}

class Bytes {
  private readonly parts: Uint8Array[] = [];

  push(bytes: Uint8Array): void {
    this.parts.push(bytes);
  }

  u32(value: number): void {
    this.numbers(Uint32Array.of(value));
  }

  u64(value: number): void {
    this.numbers(BigUint64Array.of(BigInt(value)));
  }

  text(value: string): void {
    const bytes = Buffer.from(value);
    this.u64(bytes.length);
    this.push(bytes);
  }

  array(elementType: number, length: number): void {
    this.u32(VALUE_TYPES.array);
    this.u32(elementType);
    this.u64(length);
  }

  numbers(
    values: Uint32Array | Int32Array | Float32Array | BigUint64Array,
  ): void {
    this.push(new Uint8Array(values.buffer));
  }

  join(): Uint8Array {
    return Buffer.concat(this.parts);
  }
}
