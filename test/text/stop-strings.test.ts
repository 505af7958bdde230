import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { OctavoError } from "../../src/core/errors.js";
import { StopStringMatcher } from "../../src/text/stop-strings.js";

/** The documented rule, on the whole text: the earliest end wins, of those the longest. */
function naive(
  text: string,
  stops: readonly string[],
  include: boolean,
  from = 0,
) {
  for (let end = from + 1; end <= text.length; end++) {
    const ending = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    if (ending.length === 0) continue;
    const stopped = ending.reduce((a, b) => (b.length > a.length ? b : a));
    return {
      text: text.slice(0, include ? end : end - stopped.length),
      stopped,
    };
  }
  return { text, stopped: null };
}

function stream(
  pieces: readonly string[],
  stops: readonly string[],
  include = false,
) {
  const matcher = new StopStringMatcher(stops, include);
  let text = "";
  let stopped: string | null = null;
  for (const piece of pieces) {
    const result = matcher.push(piece);
    text += result.text;
    stopped = result.stopped;
    if (stopped !== null) break;
  }
  return { text: text + matcher.flush(), stopped };
}

/** Few letters, so that stop strings overlap each other and the text. */
const word = (maxLength: number) =>
  fc.string({ unit: fc.constantFrom("a", "b", "é", "🚀"), maxLength });
const stopWords = fc.array(
  word(4).filter((stop) => stop !== ""),
  { maxLength: 5 },
);

describe("StopStringMatcher", () => {
  it("equals the naive search of the whole text, however the text is cut", () => {
    fc.assert(
      fc.property(
        fc.array(word(5), { maxLength: 10 }),
        stopWords,
        fc.boolean(),
        (pieces, stops, include) => {
          expect(stream(pieces, stops, include)).toEqual(
            naive(pieces.join(""), stops, include),
          );
        },
      ),
      { numRuns: 3000 },
    );
  });

  it("lets nothing out that a stop string may still begin with, and holds back nothing else", () => {
    fc.assert(
      fc.property(
        fc.array(word(5), { maxLength: 10 }),
        stopWords,
        (pieces, stops) => {
          const matcher = new StopStringMatcher(stops);
          let all = "";
          let out = "";
          for (const piece of pieces) {
            all += piece;
            const { text, stopped } = matcher.push(piece);
            out += text;
            if (stopped !== null) return;
            const held = Math.max(
              0,
              ...stops.flatMap((stop) =>
                Array.from({ length: stop.length }, (_, i) => i).filter((i) =>
                  all.endsWith(stop.slice(0, i)),
                ),
              ),
            );
            expect(out).toBe(all.slice(0, all.length - held));
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  it("with matching off for the first pieces, counts only stop strings that end later", () => {
    fc.assert(
      fc.property(
        fc.array(word(4), { maxLength: 8 }),
        fc.array(word(4), { maxLength: 8 }),
        stopWords,
        (first, later, stops) => {
          const matcher = new StopStringMatcher(stops);
          let text = "";
          for (const piece of first) {
            const result = matcher.push(piece, { matching: false });
            expect(result.stopped).toBeNull();
            text += result.text;
          }
          for (const piece of later) text += matcher.push(piece).text;
          const { stopped } = matcher;
          text += matcher.flush();
          const ignored = first.join("").length;
          expect({ text, stopped }).toEqual(
            naive([...first, ...later].join(""), stops, false, ignored),
          );
        },
      ),
      { numRuns: 2000 },
    );
  });

  it("splits a stop string at every place", () => {
    const text = "Hello 世界\n\nUser: no";
    const stop = "\n\nUser:";
    for (let i = 0; i <= text.length; i++)
      for (let j = i; j <= text.length; j++)
        expect(
          stream([text.slice(0, i), text.slice(i, j), text.slice(j)], [stop]),
        ).toEqual({ text: "Hello 世界", stopped: stop });
  });

  it("ends with the match that is complete first, and of those with the longest", () => {
    expect(stream(["xabcd"], ["abcd", "bc"])).toEqual({
      text: "xa",
      stopped: "bc",
    });
    expect(stream(["xabc"], ["bc", "abc", "c"])).toEqual({
      text: "x",
      stopped: "abc",
    });
    expect(stream(["xabc"], ["bc"], true)).toEqual({
      text: "xabc",
      stopped: "bc",
    });
  });

  it("says nothing more after a match", () => {
    const matcher = new StopStringMatcher(["."]);
    expect(matcher.push("a.b")).toEqual({ text: "a", stopped: "." });
    expect(matcher.push("c")).toEqual({ text: "", stopped: "." });
    expect(matcher.flush()).toBe("");
  });

  it("passes everything through without stop strings", () => {
    const matcher = new StopStringMatcher([]);
    expect(matcher.push("abc")).toEqual({ text: "abc", stopped: null });
    expect(matcher.flush()).toBe("");
  });

  it("takes a lone surrogate for the character it would be in the output", () => {
    expect(stream(["a🚀b\uFFFDc"], ["\ud83d"])).toEqual({
      text: "a🚀b",
      stopped: "\uFFFD",
    });
  });

  it("refuses an empty stop string", () => {
    expect(() => new StopStringMatcher(["a", ""])).toThrow(OctavoError);
  });

  it("looks at each character once: a long output with a long stop string is quick", () => {
    const matcher = new StopStringMatcher(["a".repeat(5000) + "b"]);
    const started = performance.now();
    let length = 0;
    for (let i = 0; i < 20_000; i++)
      length += matcher.push("aaaaaaaaaa").text.length;
    expect(length).toBe(200_000 - 5000);
    // 0.2 s here; looking at the held text again on each push is 100 million steps, at the output 2 billion.
    expect(performance.now() - started).toBeLessThan(3000);
  });
});
