import { closeSync, openSync, writeSync } from "node:fs";
import { assert, OctavoError } from "../core/errors.js";

/** A tensor of the file to come. */
export interface OutputTensor {
  name: string;
  dtype: "F16" | "I32";
  shape: number[];
}

interface Place {
  /** From the start of the file. */
  offset: number;
  bytes: number;
  written: number;
}

const ELEMENT_BYTES = { F16: 2, I32: 4 } as const;

/**
 * Writes a safetensors file whose tensors are known before their numbers are: the header goes first, then each tensor to
 * its place, in any order and in pieces. Errors: `invalid_config` naming the file where the system refuses.
 */
export class SafetensorsWriter {
  readonly fileBytes: number;
  private readonly places = new Map<string, Place>();
  private readonly file: number;

  constructor(
    private readonly path: string,
    tensors: readonly OutputTensor[],
  ) {
    const { header, places, bytes } = layOut(tensors);
    this.places = places;
    this.fileBytes = bytes;
    this.file = this.guarded(() => openSync(path, "wx"));
    this.writeAt(header, 0);
  }

  /** The next bytes of a tensor. */
  write(name: string, data: ArrayBufferView): void {
    const place = this.places.get(name);
    assert(
      place !== undefined && place.written + data.byteLength <= place.bytes,
      `${name} is written in its own bytes`,
    );
    this.writeAt(
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      place.offset + place.written,
    );
    place.written += data.byteLength;
  }

  /** Closes the file, which is whole: every tensor has all of its bytes. */
  finish(): void {
    for (const [name, { written, bytes }] of this.places)
      assert(written === bytes, `${name} is written`);
    this.close();
  }

  close(): void {
    closeSync(this.file);
  }

  private writeAt(bytes: Uint8Array, position: number): void {
    // One call writes at most 2 GiB on Linux.
    for (let done = 0; done < bytes.length;)
      done += this.guarded(() =>
        writeSync(this.file, bytes, done, bytes.length - done, position + done),
      );
  }

  private guarded<T>(body: () => T): T {
    try {
      return body();
    } catch (error) {
      throw new OctavoError(
        "invalid_config",
        `--out: cannot write ${this.path}: ${(error as Error).message}`,
        "out",
        { cause: error },
      );
    }
  }
}

/** What a file of these tensors takes. */
export function safetensorsBytes(tensors: readonly OutputTensor[]): number {
  return layOut(tensors).bytes;
}

function layOut(tensors: readonly OutputTensor[]): {
  header: Buffer;
  places: Map<string, Place>;
  bytes: number;
} {
  const entries: Record<string, unknown> = {
    __metadata__: { format: "pt" },
  };
  const places = new Map<string, Place>();
  let at = 0;
  for (const { name, dtype, shape } of tensors) {
    const bytes = shape.reduce((a, b) => a * b, ELEMENT_BYTES[dtype]);
    entries[name] = { dtype, shape, data_offsets: [at, at + bytes] };
    places.set(name, { offset: at, bytes, written: 0 });
    at += bytes;
  }
  const json = JSON.stringify(entries);
  // Spaces at the end of the header bring the numbers to a multiple of 8, as the format's own library does.
  const padded = Math.ceil(Buffer.byteLength(json) / 8) * 8;
  const header = Buffer.alloc(8 + padded, " ");
  header.writeBigUInt64LE(BigInt(padded));
  header.write(json, 8);
  for (const place of places.values()) place.offset += header.length;
  return { header, places, bytes: header.length + at };
}
