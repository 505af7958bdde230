/** Writes small ONNX models: the few messages of the format (onnx.proto3) that they need, as protobuf encodes them. */

const LENGTH_DELIMITED = 2;
const VARINT = 0;
const FIXED32 = 5;

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest > 0n ? low | 0x80 : low);
  } while (rest > 0n);
  return Buffer.from(bytes);
}

const tag = (field: number, wire: number): Buffer =>
  varint((field << 3) | wire);
const int = (field: number, value: number): Buffer =>
  Buffer.concat([tag(field, VARINT), varint(value)]);
const bytes = (field: number, value: Buffer | string): Buffer => {
  const buffer = Buffer.from(value as string);
  return Buffer.concat([
    tag(field, LENGTH_DELIMITED),
    varint(buffer.length),
    buffer,
  ]);
};
const float = (field: number, value: number): Buffer => {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatLE(value);
  return Buffer.concat([tag(field, FIXED32), buffer]);
};
const message = (...fields: Buffer[]): Buffer => Buffer.concat(fields);

export const FLOAT = 1;
export const INT32 = 6;
export const INT64 = 7;
export const FLOAT16 = 10;

/** A number is fixed, a name is free. */
export type Dim = number | string;

export interface Value {
  name: string;
  type: number;
  shape: readonly Dim[];
}

export interface Node {
  op: string;
  inputs: readonly string[];
  output: string;
  /** Outputs after the first. */
  others?: readonly string[];
  /** A whole number is an INT, a list INTS, anything else a FLOAT. */
  attributes?: Readonly<Record<string, number | readonly number[]>>;
}

export interface Graph {
  inputs: readonly Value[];
  outputs: readonly Value[];
  nodes: readonly Node[];
  floats: Readonly<Record<string, { dims: number[]; data: Float32Array }>>;
  /** Int64. */
  integers?: Readonly<Record<string, readonly number[]>>;
  /** Where the floats are, instead of within the model. */
  externalData?: string;
}

/** The model's file, and the one with its floats where they are outside of it. */
export function writeOnnx(graph: Graph): { model: Buffer; data: Buffer } {
  const outside: Buffer[] = [];
  const initializers = [
    ...Object.entries(graph.floats).map(([name, { dims, data }]) => {
      const raw = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
      const head = [
        ...dims.map((dim) => int(1, dim)),
        int(2, FLOAT),
        bytes(8, name),
      ];
      if (graph.externalData === undefined)
        return message(...head, bytes(9, raw));
      const offset = outside.reduce((sum, { length }) => sum + length, 0);
      outside.push(raw);
      const places = Object.entries({
        location: graph.externalData,
        offset: String(offset),
        length: String(raw.length),
      }).map(([key, value]) =>
        bytes(13, message(bytes(1, key), bytes(2, value))),
      );
      return message(...head, ...places, int(14, 1));
    }),
    ...Object.entries(graph.integers ?? {}).map(([name, values]) => {
      const raw = Buffer.alloc(values.length * 8);
      values.forEach((value, i) => raw.writeBigInt64LE(BigInt(value), i * 8));
      return message(
        int(1, values.length),
        int(2, INT64),
        bytes(8, name),
        bytes(9, raw),
      );
    }),
  ];
  const body = message(
    ...graph.nodes.map((node) => bytes(1, encodeNode(node))),
    bytes(2, "graph"),
    ...initializers.map((tensor) => bytes(5, tensor)),
    ...graph.inputs.map((value) => bytes(11, encodeValue(value))),
    ...graph.outputs.map((value) => bytes(12, encodeValue(value))),
  );
  const opset = message(bytes(1, ""), int(2, 17));
  const model = message(int(1, 8), bytes(7, body), bytes(8, opset));
  return { model, data: Buffer.concat(outside) };
}

function encodeNode(node: Node): Buffer {
  const { op, inputs, output, others = [], attributes = {} } = node;
  return message(
    ...inputs.map((name) => bytes(1, name)),
    ...[output, ...others].map((name) => bytes(2, name)),
    bytes(3, output),
    bytes(4, op),
    ...Object.entries(attributes).map(([name, value]) =>
      bytes(5, encodeAttribute(name, value)),
    ),
  );
}

function encodeAttribute(
  name: string,
  value: number | readonly number[],
): Buffer {
  if (typeof value !== "number")
    return message(
      bytes(1, name),
      ...value.map((entry) => int(8, entry)),
      int(20, 7),
    );
  return Number.isInteger(value)
    ? message(bytes(1, name), int(3, value), int(20, 2))
    : message(bytes(1, name), float(2, value), int(20, 1));
}

function encodeValue({ name, type, shape }: Value): Buffer {
  const dims = shape.map((dim) =>
    bytes(1, typeof dim === "number" ? int(1, dim) : bytes(2, dim)),
  );
  const tensor = message(int(1, type), bytes(2, message(...dims)));
  return message(bytes(1, name), bytes(2, bytes(1, tensor)));
}
