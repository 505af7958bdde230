/**
 * A seeded generator (sfc32 by C. Doty-Humphrey, PractRand): the same seed and stream give the same load on any machine.
 */
export class Random {
  private a: number;
  private b: number;
  private c: number;
  private counter = 1;

  /** @param stream separates sequences of one seed: arrivals, lengths, one per hash id of a trace */
  constructor(seed: number, stream = 0) {
    this.a = mix(seed);
    this.b = mix(Math.floor(seed / 2 ** 32) ^ 0x9e3779b9);
    this.c = mix(stream + 0x7f4a7c15);
    // The state needs a few rounds until every bit depends on every other.
    for (let i = 0; i < 12; i++) this.word();
  }

  /** 32 random bits as an unsigned integer. */
  word(): number {
    const out = (this.a + this.b + this.counter++) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + out) | 0;
    return out >>> 0;
  }

  /** In [0, 1), 53 random bits. */
  uniform(): number {
    return ((this.word() >>> 5) * 2 ** 26 + (this.word() >>> 6)) * 2 ** -53;
  }

  /** A whole number in [low, high], each equally likely. */
  integer(low: number, high: number): number {
    return low + Math.floor(this.uniform() * (high - low + 1));
  }

  /** Mean 0, variance 1 (Marsaglia's polar method). */
  normal(): number {
    for (;;) {
      const x = 2 * this.uniform() - 1;
      const y = 2 * this.uniform() - 1;
      const square = x * x + y * y;
      if (square > 0 && square < 1)
        return x * Math.sqrt((-2 * Math.log(square)) / square);
    }
  }

  /**
   * Gamma with this shape and scale 1: mean and variance are `shape`. Marsaglia and Tsang, "A simple method for
   * generating gamma variables" (2000); below 1, one shape up and times U^(1/shape).
   */
  gamma(shape: number): number {
    if (shape < 1)
      return this.gamma(shape + 1) * (1 - this.uniform()) ** (1 / shape);
    const d = shape - 1 / 3;
    const c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = this.normal();
      const v = (1 + c * x) ** 3;
      if (v <= 0) continue;
      const logU = Math.log(1 - this.uniform());
      if (logU < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
    }
  }

  /** Reorders in place (Fisher and Yates). */
  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(0, i);
      [items[i], items[j]] = [items[j] as T, items[i] as T];
    }
    return items;
  }
}

/** Spreads the bits of a small number over 32 (the finalizer of MurmurHash3). */
function mix(value: number): number {
  let bits = value | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return bits ^ (bits >>> 16);
}
