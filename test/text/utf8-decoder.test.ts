import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Utf8Decoder } from "../../src/text/utf8-decoder.js";

/** Bytes that come close to UTF-8: whole characters, cut ones, and any byte. */
const bytes = fc
  .array(
    fc.oneof(
      fc
        .string({ unit: "binary", maxLength: 3 })
        .map((text) => Buffer.from(text)),
      fc
        .string({ unit: "grapheme", minLength: 1, maxLength: 2 })
        .map((text) => Buffer.from(text)),
      fc
        .tuple(fc.constantFrom("é", "한", "🚀"), fc.integer({ min: 1, max: 3 }))
        .map(([text, n]) => Buffer.from(text).subarray(0, n)),
      fc.uint8Array({ maxLength: 3 }),
    ),
    { maxLength: 12 },
  )
  .map((parts) => Buffer.concat(parts));

function whole(input: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(input);
}

describe("Utf8Decoder", () => {
  it("decodes like TextDecoder, however the bytes are cut", () => {
    fc.assert(
      fc.property(bytes, fc.array(fc.nat(20)), (input, cuts) => {
        const decoder = new Utf8Decoder();
        let text = "";
        let from = 0;
        for (const length of [...cuts, input.length]) {
          text += decoder.write(input.subarray(from, from + length));
          from += length;
        }
        expect(text + decoder.end()).toBe(whole(input));
      }),
      { numRuns: 2000 },
    );
  });

  it("gives every character as soon as it is certain", () => {
    const decoder = new Utf8Decoder();
    const seen = [...Buffer.from("aé한🚀")].map((byte) =>
      decoder.write(Uint8Array.of(byte)),
    );
    expect(seen).toEqual(["a", "", "é", "", "", "한", "", "", "", "🚀"]);
    expect(decoder.pending).toBe(false);
  });

  it.each([
    ["a continuation byte alone", [0x80], "\uFFFD"],
    ["an overlong form", [0xc0, 0xaf], "\uFFFD\uFFFD"],
    ["a surrogate", [0xed, 0xa0, 0x80], "\uFFFD\uFFFD\uFFFD"],
    ["above U+10FFFF", [0xf4, 0x90, 0x80, 0x80], "\uFFFD\uFFFD\uFFFD\uFFFD"],
    ["a cut sequence before text", [0xf0, 0x9f, 0x9a, 0x41], "\uFFFDA"],
    ["a cut sequence at the end", [0xe2, 0x82], "\uFFFD"],
    ["a byte order mark", [0xef, 0xbb, 0xbf, 0x41], "\uFEFFA"],
  ])("replaces each maximal ill-formed part: %s", (_, input, expected) => {
    const decoder = new Utf8Decoder();
    expect(decoder.write(Uint8Array.from(input)) + decoder.end()).toBe(
      expected,
    );
  });
});
