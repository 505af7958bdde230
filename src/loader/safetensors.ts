import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { OctavoError } from "../core/errors.js";
import { got, invalidModel, isObject, parseJsonObject } from "./fields.js";

/** One entry of a header. `offset` is from the start of the file. */
export interface TensorEntry {
  name: string;
  dtype: string;
  shape: number[];
  offset: number;
  bytes: number;
}

export interface SafetensorsHeader {
  tensors: TensorEntry[];
  /** Of the whole file. */
  fileBytes: number;
}

/** The limit of the format's own library. */
const MAX_HEADER_BYTES = 100_000_000;
const MAX_RANK = 8;
const LENGTH_BYTES = 8;

const BITS: Readonly<Record<string, number>> = {
  ...{ BOOL: 8, U8: 8, I8: 8, F8_E4M3: 8, F8_E5M2: 8, F8_E8M0: 8 },
  ...{ U16: 16, I16: 16, F16: 16, BF16: 16 },
  ...{ U32: 32, I32: 32, F32: 32, U64: 64, I64: 64, F64: 64, C64: 64 },
  ...{ F4: 4, F6_E2M3: 6, F6_E3M2: 6 },
};

/**
 * Reads and checks the header of a safetensors file; its tensors' bytes are not touched. As strict as the format's own
 * library: ranges start at 0, follow each other without gap or overlap and end where the file ends; each is as long as
 * its dtype and shape say. Format: 8 bytes of header length (little endian), the header as JSON, the bytes.
 * Errors: `invalid_model` naming the file and the tensor.
 */
export function readSafetensorsHeader(
  path: string,
  name: string,
): SafetensorsHeader {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (error) {
    throw invalidModel(name, `cannot be opened: ${(error as Error).message}`);
  }
  try {
    const status = fstatSync(file);
    if (!status.isFile()) throw invalidModel(name, "expected a regular file");
    const headerBytes = headerLength(file, name, status.size);
    const text = decode(readBytes(file, name, LENGTH_BYTES, headerBytes), name);
    return {
      tensors: parseHeader(text, name, LENGTH_BYTES + headerBytes, status.size),
      fileBytes: status.size,
    };
  } catch (error) {
    if (error instanceof OctavoError) throw error;
    throw invalidModel(name, `cannot be read: ${(error as Error).message}`);
  } finally {
    closeSync(file);
  }
}

function headerLength(file: number, name: string, fileBytes: number): number {
  if (fileBytes < LENGTH_BYTES)
    throw invalidModel(
      name,
      `expected at least ${LENGTH_BYTES} bytes, got ${fileBytes}`,
    );
  const length = readBytes(file, name, 0, LENGTH_BYTES).readBigUInt64LE();
  const most = Math.min(MAX_HEADER_BYTES, fileBytes - LENGTH_BYTES);
  if (length < 2n || length > BigInt(most))
    throw invalidModel(
      name,
      `expected a header of 2 to ${most} bytes, got a header length of ${length}`,
    );
  return Number(length);
}

function readBytes(
  file: number,
  name: string,
  position: number,
  length: number,
): Buffer {
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length;) {
    const read = readSync(file, bytes, done, length - done, position + done);
    if (read === 0)
      throw invalidModel(name, `ended at byte ${position + done} while read`);
    done += read;
  }
  return bytes;
}

function decode(bytes: Buffer, name: string): string {
  // The library asks for it too: nothing else can be mistaken for the format.
  if (bytes[0] !== 0x7b)
    throw invalidModel(name, "expected a header that starts with {");
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw invalidModel(name, "expected a header in UTF-8");
  }
}

function parseHeader(
  text: string,
  name: string,
  dataStart: number,
  fileBytes: number,
): TensorEntry[] {
  const header = parseJsonObject(text, `${name} (header)`);
  refuseDuplicates(text, name);
  const tensors: TensorEntry[] = [];
  for (const [key, value] of Object.entries(header))
    if (key === "__metadata__") checkMetadata(value, name);
    else tensors.push(parseEntry(key, value, name, dataStart));
  checkCoverage(tensors, name, dataStart, fileBytes);
  return tensors;
}

function checkMetadata(value: unknown, name: string): void {
  if (
    !isObject(value) ||
    !Object.values(value).every((v) => typeof v === "string")
  )
    throw invalidModel(name, "expected __metadata__ of strings");
}

function parseEntry(
  tensor: string,
  value: unknown,
  name: string,
  dataStart: number,
): TensorEntry {
  const fail = (expected: string, came: unknown): OctavoError =>
    invalidModel(
      name,
      `tensor ${tensor}: expected ${expected}, got ${got(came)}`,
      tensor,
    );
  if (!isObject(value)) throw fail("an object", value);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(BITS, dtype))
    throw fail(`a dtype (${Object.keys(BITS).join(", ")})`, dtype);
  if (!isCounts(shape) || shape.length > MAX_RANK)
    throw fail(`a shape of at most ${MAX_RANK} whole numbers`, shape);
  if (!isCounts(offsets) || offsets.length !== 2)
    throw fail("data_offsets of two whole numbers", offsets);
  const [begin, end] = offsets as [number, number];
  const bits = shape.reduce((product, n) => product * n, BITS[dtype] ?? 0);
  if (!Number.isSafeInteger(bits) || bits % 8 !== 0)
    throw fail("a shape of whole bytes", shape);
  if (end - begin !== bits / 8)
    throw fail(
      `${bits / 8} bytes (${dtype} [${shape.join(", ")}]) in data_offsets`,
      offsets,
    );
  return {
    name: tensor,
    dtype,
    shape,
    offset: dataStart + begin,
    bytes: end - begin,
  };
}

function isCounts(value: unknown): value is number[] {
  return (
    Array.isArray(value) &&
    value.every((v) => Number.isSafeInteger(v) && (v as number) >= 0)
  );
}

/** The ranges, in order, are the file from `dataStart` to its end. */
function checkCoverage(
  tensors: TensorEntry[],
  name: string,
  dataStart: number,
  fileBytes: number,
): void {
  const sorted = [...tensors].sort(
    (a, b) => a.offset - b.offset || a.bytes - b.bytes,
  );
  let at = dataStart;
  for (const { name: tensor, offset, bytes } of sorted) {
    if (offset !== at)
      throw invalidModel(
        name,
        `tensor ${tensor}: expected its bytes at ${at - dataStart}, where those before it end, got ${offset - dataStart}`,
        tensor,
      );
    at = offset + bytes;
  }
  if (at !== fileBytes)
    throw invalidModel(
      name,
      `expected ${at} bytes by its header, got a file of ${fileBytes}`,
    );
}

/**
 * A name twice: JSON.parse keeps the last one silently. `text` has been parsed as JSON, so strings and nesting are
 * sound, and a string at depth 1 is a key when it follows { or a comma.
 */
function refuseDuplicates(text: string, name: string): void {
  const seen = new Set<string>();
  let depth = 0;
  let keyNext = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '"') {
      const end = stringEnd(text, i);
      if (keyNext) {
        const key = JSON.parse(text.slice(i, end)) as string;
        if (seen.has(key))
          throw invalidModel(
            name,
            `tensor ${key}: expected once, got twice`,
            key,
          );
        seen.add(key);
        keyNext = false;
      }
      i = end - 1;
    } else if (c === "{" || c === "[") keyNext = ++depth === 1;
    else if (c === "}" || c === "]") depth--;
    else if (c === ",") keyNext = depth === 1;
  }
}

/** One past the closing quote of the string that starts at `start`. */
function stringEnd(text: string, start: number): number {
  let i = start + 1;
  while (text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
  return i + 1;
}
