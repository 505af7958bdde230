import { describe, expect, it } from "vitest";
import { SeedSource } from "../../src/server/seeds.js";

describe("seeds of requests", () => {
  it("are the same sequence at every start with --seed, and differ between requests and seeds", () => {
    const draw = (seed: number): string[] => {
      const source = new SeedSource(seed);
      return Array.from({ length: 4 }, () => JSON.stringify(source.next()));
    };
    expect(draw(7)).toEqual(draw(7));
    expect(new Set([...draw(7), ...draw(8)]).size).toBe(8);
  });

  it("are unpredictable without --seed", () => {
    const first = new SeedSource(undefined).next();
    expect(new SeedSource(undefined).next()).not.toEqual(first);
  });

  it("are the request's own where it brings one, modulo 2^64", () => {
    const source = new SeedSource(1);
    expect(source.of(5)).toEqual({ seedLo: 5, seedHi: 0 });
    expect(source.of(2 ** 40 + 3)).toEqual({ seedLo: 3, seedHi: 256 });
    expect(source.of(-2)).toEqual({ seedLo: 0xfffffffe, seedHi: 0xffffffff });
    expect(source.of(null)).not.toEqual(source.of(-1));
  });
});
