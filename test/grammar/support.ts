/** XGrammar itself in a test, with a vocabulary of bytes: what a grammar really lets through. */
import { beforeAll } from "vitest";
import { buildEbnf } from "../../src/grammar/spec.js";
import type { GrammarSpec } from "../../src/grammar/spec.js";
import { stateAfter } from "../../src/grammar/utf8-state.js";
import { loadXGrammar } from "../../src/grammar/xgrammar.js";
import type { GrammarCompiler, XGrammar } from "../../src/grammar/xgrammar.js";

const EOS = 256;
const NUM_TOKENS = 257;

export class Checker {
  private constructor(
    private readonly xgrammar: XGrammar,
    private readonly compiler: GrammarCompiler,
  ) {}

  static async make(): Promise<Checker> {
    const xgrammar = await loadXGrammar();
    const bytes = Array.from(
      { length: 256 },
      (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
    );
    const info = await xgrammar.TokenizerInfo.createTokenizerInfo(
      [...bytes, "</s>"],
      "byte_fallback",
      false,
      NUM_TOKENS,
      [EOS],
    );
    const compiler = await xgrammar.GrammarCompiler.createGrammarCompiler(
      info,
      false,
    );
    return new Checker(xgrammar, compiler);
  }

  /** Which of these texts, as a whole, the grammar lets through. */
  async accepted(
    spec: GrammarSpec,
    texts: readonly string[],
  ): Promise<string[]> {
    const compiled = await this.compiler.compileGrammar(
      buildEbnf(spec, (text) => text),
    );
    const { GrammarMatcher } = this.xgrammar;
    const found: string[] = [];
    for (const text of texts) {
      const matcher = await GrammarMatcher.createGrammarMatcher(compiled);
      const tokens = [...Buffer.from(text, "utf8"), EOS];
      if (tokens.every((token) => matcher.acceptToken(token))) found.push(text);
      matcher.dispose();
    }
    compiled.dispose();
    return found;
  }

  /** Texts drawn byte by byte from what the grammar allows; those that did not end in time are left out. */
  async drawn(
    spec: GrammarSpec,
    count: number,
    random: () => number,
  ): Promise<string[]> {
    const compiled = await this.compiler.compileGrammar(
      buildEbnf(spec, (text) => text),
    );
    const texts: string[] = [];
    for (let i = 0; i < count; i++) {
      const text = await this.draw(compiled, random);
      if (text !== null) texts.push(text);
    }
    compiled.dispose();
    return texts;
  }

  private async draw(
    compiled: Awaited<ReturnType<GrammarCompiler["compileGrammar"]>>,
    random: () => number,
  ): Promise<string | null> {
    const { GrammarMatcher } = this.xgrammar;
    const matcher = await GrammarMatcher.createGrammarMatcher(compiled);
    const bytes: number[] = [];
    let utf8 = 0;
    let text: string | null = null;
    while (bytes.length < 400 && text === null) {
      const mask = await matcher.getNextTokenBitmask();
      const allowed = Array.from({ length: NUM_TOKENS }, (_, id) => id).filter(
        (id) =>
          ((mask[id >>> 5] ?? 0) >>> (id & 31)) & 1 &&
          (id === EOS || stateAfter(utf8, Uint8Array.of(id)) >= 0),
      );
      // Ends, quotes and brackets more often than by chance, or few texts would end.
      const closing = allowed.filter((id) => [EOS, 34, 93, 125].includes(id));
      const pool = closing.length > 0 && random() < 0.3 ? closing : allowed;
      const next = pool[Math.floor(random() * pool.length)] ?? EOS;
      if (next === EOS) text = Buffer.from(bytes).toString("utf8");
      matcher.acceptToken(next);
      utf8 = next === EOS ? 0 : stateAfter(utf8, Uint8Array.of(next));
      bytes.push(next);
    }
    matcher.dispose();
    return text;
  }
}

let checker: Checker;

/** In a describe or a file: makes the checker before its tests. */
export function useChecker(): () => Checker {
  beforeAll(async () => {
    checker = await Checker.make();
  });
  return () => checker;
}

/** Numbers in [0, 1) that are the same in every run. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
