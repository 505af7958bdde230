import { buildEbnf } from "./spec.js";
import type { GrammarSpec } from "./spec.js";
import type { Vocabulary } from "./vocabulary.js";
import type { GrammarCompiler, XGrammar } from "./xgrammar.js";

const SCHEMA = {
  type: "object",
  properties: {
    name: { type: "string" },
    title: { type: "string", maxLength: 12 },
    id: { type: "string", pattern: "^[a-z]{2}-[0-9]{1,4}$" },
    count: { type: "integer", minimum: 0 },
    price: { type: "number" },
    done: { type: "boolean" },
    colour: { enum: ["red", "green", "blue"] },
    tags: { type: "array", items: { type: "string" } },
  },
  required: ["name", "title", "id", "count", "price", "done", "colour", "tags"],
  additionalProperties: false,
};

/** What requests use most, at a cost of about a typical one each. */
const PRACTICE: readonly GrammarSpec[] = [
  { kind: "json_schema", schema: SCHEMA, param: "" },
  { kind: "json_object" },
  { kind: "regex", pattern: "[A-Z][a-z]+( [a-z]+){0,8}\\.", param: "" },
];
/** Tokens of each. */
const STEPS = 64;

/** Compiles grammars and follows outputs through them, for the sake of V8, which compiles for speed what runs often. */
export async function practise(
  xgrammar: XGrammar,
  compiler: GrammarCompiler,
  vocabulary: Vocabulary,
  isWanted: () => boolean,
): Promise<void> {
  for (const spec of PRACTICE) {
    if (isWanted()) return;
    const compiled = await compiler.compileGrammar(
      buildEbnf(spec, vocabulary.spell),
    );
    const matcher =
      await xgrammar.GrammarMatcher.createGrammarMatcher(compiled);
    for (let i = 0; i < STEPS && !isWanted() && !matcher.isTerminated(); i++) {
      const token = someToken(await matcher.getNextTokenBitmask(), i);
      if (token < 0 || !matcher.acceptToken(token)) break;
    }
    matcher.dispose();
    compiled.dispose();
  }
}

/** One of the tokens in the mask, another for another `turn`; -1 where there is none. */
function someToken(mask: Int32Array, turn: number): number {
  for (let i = 0; i < mask.length; i++) {
    const at = (i + 97 * turn) % mask.length;
    const word = mask[at] as number;
    if (word !== 0) return at * 32 + (31 - Math.clz32(word));
  }
  return -1;
}
