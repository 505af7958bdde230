import { createHash, randomBytes } from "node:crypto";

export interface SeedHalves {
  /** Unsigned 32-bit. */
  seedLo: number;
  seedHi: number;
}

/** 64-bit seeds for requests that bring none: unpredictable, or with --seed the same sequence at every start. */
export class SeedSource {
  private drawn = 0;

  constructor(private readonly seed: number | undefined) {}

  next(): SeedHalves {
    const bytes =
      this.seed === undefined
        ? randomBytes(8)
        : createHash("sha256").update(`${this.seed}:${this.drawn++}`).digest();
    return { seedLo: bytes.readUInt32LE(0), seedHi: bytes.readUInt32LE(4) };
  }

  /** A request's own seed; null and -1 (as in vLLM) draw one. Negative seeds are taken modulo 2^64. */
  of(seed: number | null | undefined): SeedHalves {
    if (seed == null || seed === -1) return this.next();
    const bits = BigInt.asUintN(64, BigInt(seed));
    return {
      seedLo: Number(bits & 0xffffffffn),
      seedHi: Number(bits >> 32n),
    };
  }
}
