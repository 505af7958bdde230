import { EbnfError, ebnfNode } from "./ebnf-reader.js";
import { toEbnf } from "./ebnf.js";
import { refused } from "./grammar-error.js";
import { JSON_NOTATION } from "./json-text.js";
import { EMPTY, choice, oneOf, repeat, sequence, text } from "./nodes.js";
import type { Node } from "./nodes.js";
import { chars, subtract, ANY } from "./ranges.js";
import { RegexError, regexNode } from "./regex.js";
import { argumentsNode, schemaNode } from "./schema.js";

/**
 * What a constrained output must be. Plain data, also the key of what was compiled; `param` names the request's field in
 * errors. Parts combine: a tool call is text around a schema.
 */
export type GrammarSpec =
  | { kind: "json_schema"; schema: unknown; param: string }
  | { kind: "json_object" }
  /** The arguments of a call as Python writes them, with their parentheses. */
  | { kind: "python_arguments"; schema: unknown; param: string }
  /** Of the whole text: ^ and $ around it say nothing more. */
  | { kind: "regex"; pattern: string; param: string }
  /** GBNF, or XGrammar's EBNF, with the rule `root`. */
  | { kind: "ebnf"; grammar: string; param: string }
  /** This text; where it spells a special token, that token. */
  | { kind: "text"; text: string }
  /** Any text without these characters; lengths in characters. */
  | { kind: "free_text"; without: string; max: number | null }
  | { kind: "sequence"; parts: GrammarSpec[] }
  | { kind: "choice"; parts: GrammarSpec[] }
  | {
      kind: "repeat";
      part: GrammarSpec;
      separator: string;
      min: number;
      max: number | null;
    };

/** Spells text as the grammar sees it: special tokens in a spelling of their own (vocabulary.ts). */
export type Spell = (text: string) => string;

/** The EBNF of a spec. Throws 400 that names the place at fault. */
export function buildEbnf(spec: GrammarSpec, spell: Spell): string {
  let ebnf: string | null;
  try {
    ebnf = toEbnf(nodeOf(spec, spell));
  } catch (error) {
    if (error instanceof RangeError)
      throw refused(paramOf(spec), "it is nested too deeply");
    throw error;
  }
  if (ebnf === null) throw refused(paramOf(spec), "no output can satisfy it");
  return ebnf;
}

/** The field that the first part with one came from. */
export function paramOf(spec: GrammarSpec): string {
  if ("param" in spec) return spec.param;
  const parts =
    "parts" in spec ? spec.parts : "part" in spec ? [spec.part] : [];
  for (const part of parts) {
    const param = paramOf(part);
    if (param !== "") return param;
  }
  return "";
}

function nodeOf(spec: GrammarSpec, spell: Spell): Node {
  switch (spec.kind) {
    case "json_schema":
      return schemaNode(spec.schema, spec.param);
    case "json_object":
      return JSON_NOTATION.anyObject;
    case "python_arguments":
      return argumentsNode(spec.schema, spec.param);
    case "regex":
      return explained(spec.param, () => regexNode(spec.pattern));
    case "ebnf":
      return explained(spec.param, () => ebnfNode(spec.grammar));
    case "text":
      return text(spell(spec.text));
    case "free_text":
      return repeat(
        oneOf(subtract(ANY, chars(spec.without))),
        0,
        spec.max ?? Infinity,
      );
    case "sequence":
      return sequence(...spec.parts.map((part) => nodeOf(part, spell)));
    case "choice":
      return choice(spec.parts.map((part) => nodeOf(part, spell)));
    case "repeat":
      return separated(spec, spell);
  }
}

function separated(
  { part, separator, min, max }: GrammarSpec & { kind: "repeat" },
  spell: Spell,
): Node {
  const item = nodeOf(part, spell);
  const bound = max ?? Infinity;
  if (bound === 0) return EMPTY;
  const next = sequence(text(spell(separator)), item);
  const some = sequence(item, repeat(next, Math.max(0, min - 1), bound - 1));
  return min === 0 ? choice([EMPTY, some]) : some;
}

/** What is wrong with the text of an expression or a grammar is the fault of the field that it came in. */
function explained(param: string, read: () => Node): Node {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof RegexError || error instanceof EbnfError))
      throw error;
    throw refused(param, error.message);
  }
}
