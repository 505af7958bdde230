import { randomBytes } from "node:crypto";
import type { Constraint } from "../core/constraint.js";
import { paramOf, type GrammarSpec } from "../grammar/spec.js";
import type { Tokenizer } from "../text/tokenizer.js";
import {
  beginsReasoning,
  type ReasoningFormat,
} from "../text/turn/reasoning.js";
import type { ToolCallFormat } from "../text/turn/tool-call-format.js";
import {
  markersNeeded,
  TurnParser,
  type TurnOptions,
} from "../text/turn/turn-parser.js";
import { unsupportedField } from "./errors.js";
import type { ServerContext } from "./options.js";
import {
  announcedCalls,
  callsGrammar,
  callsOrText,
  constrainedFormat,
} from "./tool-grammar.js";
import { knownTools, type Tool, type ToolUse } from "./tools.js";

export interface TurnWishes {
  readonly toolUse: ToolUse;
  /** What the answer must match from the end of its reasoning on, if it makes no calls; null: anything. */
  readonly response: GrammarSpec | null;
  /** The answer goes on from a text of the prompt. */
  readonly continued: boolean;
  /** Most tokens of reasoning, and the field that says so. */
  readonly reasoningBudget: {
    readonly tokens: number;
    readonly param: string;
  } | null;
}

/** How the turns that answer a prompt are made and read: what the chat routes of every protocol share. */
export class TurnPlan {
  private constructor(
    /** The rendered prompt; one whose reasoning is to be bounded ends where the reasoning begins. */
    readonly prompt: string,
    private readonly options: TurnOptions,
    /** Special tokens that the parsers must see. */
    readonly keepTokenIds: ReadonlySet<number>,
    /** What the output must match after its reasoning; null: anything. */
    readonly grammar: GrammarSpec | null,
    /** Where the grammar begins, and what bounds the reasoning before; null: it begins at once. */
    readonly constraint: Constraint | null,
    private readonly shortIds: boolean,
  ) {}

  /**
   * @param rendered the prompt as the template has it
   * Errors: 400 for a bound on reasoning that nobody can see.
   */
  static async make(
    { dialect, tokenizer }: Pick<ServerContext, "dialect" | "tokenizer">,
    rendered: string,
    wishes: TurnWishes,
  ): Promise<TurnPlan> {
    const { calls, reasoning } = dialect;
    const { toolUse, continued, reasoningBudget } = wishes;
    if (reasoningBudget !== null && reasoning === null)
      throw unsupportedField(
        reasoningBudget.param,
        "this model's chat template does not show how it marks its reasoning; start the server with --reasoning-parser NAME",
      );
    const prompt =
      reasoning !== null && reasoningBudget !== null && !continued
        ? beginReasoning(reasoning, rendered)
        : rendered;
    const begun = reasoning !== null && beginsReasoning(reasoning, prompt);
    const wanted = demands(calls, wishes, tokenizer);
    const options: TurnOptions = {
      reasoning: reasoning === null ? null : { format: reasoning, begun },
      calls:
        wanted.format === null
          ? null
          : {
              format: wanted.format,
              tools: knownTools(toolUse.tools),
              maxCalls: toolUse.parallel ? Infinity : 1,
            },
    };
    const constraint = await constraintOf(
      wanted,
      begun ? reasoning : null,
      reasoningBudget,
      tokenizer,
    );
    return new TurnPlan(
      prompt,
      options,
      tokensIn(markersNeeded(options), tokenizer),
      wanted.grammar,
      constraint,
      calls?.shortIds ?? false,
    );
  }

  /** A parser for one choice. */
  parser(): TurnParser {
    return new TurnParser(this.options);
  }

  /** An id for a call; templates of Mistral's models take only their own kind. */
  callId(prefix: string): string {
    return this.shortIds
      ? randomBytes(9).toString("base64url").replace(/[-_]/g, "0").slice(0, 9)
      : `${prefix}${randomBytes(12).toString("hex")}`;
  }
}

interface Demands {
  readonly grammar: GrammarSpec | null;
  /** How calls are read; null: they are not looked for. */
  readonly format: ToolCallFormat | null;
  /** The field that the grammar comes from. */
  readonly param: string;
  /** The grammar follows this marker, which need not come; null: the grammar is of the whole answer. */
  readonly marker: string | null;
}

/** Calls that must come leave no place for another answer; calls that may come stand beside it. */
function demands(
  calls: ToolCallFormat | null,
  { toolUse, response }: TurnWishes,
  tokenizer: Tokenizer,
): Demands {
  const { choice, parallel, tools } = toolUse;
  const param = response === null ? "" : paramOf(response) || "response_format";
  if (calls === null || choice === "none")
    return { grammar: response, format: null, param, marker: null };
  if (choice === "auto" && response === null)
    return callsThatMayCome(calls, toolUse, tokenizer);
  const format = constrainedFormat(calls);
  if (choice !== "auto") {
    const [wanted, several] =
      choice === "required"
        ? [tools, parallel]
        : [tools.filter(({ name }) => name === choice.name), false];
    const grammar = callsGrammar(format, wanted, several);
    return { grammar, format, param: "tool_choice", marker: null };
  }
  const parts = response === null ? [] : [response];
  parts.push(callsGrammar(format, tools, parallel));
  return { grammar: { kind: "choice", parts }, format, param, marker: null };
}

/** Free, but where a tool is strict: its schema holds from where a call begins. Errors: 400 where nobody could see that. */
function callsThatMayCome(
  format: ToolCallFormat,
  { tools, parallel }: ToolUse,
  tokenizer: Tokenizer,
): Demands {
  const strict = tools.find((tool) => tool.strict);
  if (strict === undefined)
    return { grammar: null, format, param: "", marker: null };
  const param = strictField(strict);
  const announced = announcedCalls(format, tools, parallel);
  if (announced !== null) return { ...announced, format, param };
  // What the tokenizer does not know is text like any other.
  const known = format.hints.filter(
    (hint) => tokenizer.tokenToId(hint) !== null,
  );
  const special = known.every((hint) =>
    tokenizer.specialTokenIds.has(tokenizer.tokenToId(hint) ?? -1),
  );
  const bare = { ...format, hints: known };
  const grammar = special ? callsOrText(bare, tools, parallel) : null;
  if (grammar === null) throw notEnforced(param);
  return { grammar, format: bare, param, marker: null };
}

/** "tools[0].function.parameters" -> "tools[0].function.strict" */
function strictField({ param }: Tool): string {
  return param.replace(/\w+$/, "strict");
}

function notEnforced(param: string) {
  return unsupportedField(
    param,
    'this model writes calls in a way that cannot be held to a schema while it may also answer with text; send strict false, or tool_choice "required"',
  );
}

/** Where the grammar begins, and what bounds the reasoning before. */
async function constraintOf(
  { grammar, param, marker }: Demands,
  begun: ReasoningFormat | null,
  budget: TurnWishes["reasoningBudget"],
  tokenizer: Tokenizer,
): Promise<Constraint | null> {
  if (marker !== null) {
    if (budget !== null)
      throw unsupportedField(
        budget.param,
        'a bound on reasoning cannot be had beside strict tools that may be called; send tool_choice "required", or tools that are not strict',
      );
    const id = await ownToken(marker, tokenizer);
    if (id === null) throw notEnforced(param);
    const startAfter = [id];
    return { grammar: null, startAfter, freeTokens: null, optional: true };
  }
  if (begun === null || (budget === null && grammar === null)) return null;
  return {
    grammar: null,
    startAfter: await markerTokens(
      begun.end,
      tokenizer,
      budget?.param ?? param,
    ),
    freeTokens: budget?.tokens ?? null,
  };
}

/** Leaves it to no model whether it thinks first: a bound counts from where the reasoning begins. */
function beginReasoning(format: ReasoningFormat, prompt: string): string {
  const text = prompt.trimEnd();
  const decided = text.endsWith(format.start) || text.endsWith(format.end);
  return decided ? prompt : `${prompt}${format.start}\n`;
}

/** What may stand before a marker, and be one token with its beginning. */
const CONTEXTS = ["\n", ".", "a", " ", "}"];

/** The token that a marker always is, whatever stands around it; null where it can be spelled by others. */
async function ownToken(
  marker: string,
  tokenizer: Tokenizer,
): Promise<number | null> {
  const id = tokenizer.tokenToId(marker);
  if (id === null) return null;
  const places = CONTEXTS.flatMap((before) =>
    CONTEXTS.map((after) => before + marker + after),
  );
  const ids = await tokenizer.encode(places.join(""), {
    addSpecialTokens: false,
  });
  return ids.filter((each) => each === id).length === places.length ? id : null;
}

/**
 * The tokens of a marker as they come in an output, whatever stands before it. Errors: 400 naming `param` where the
 * tokenizer spells it now so, now otherwise: nobody could tell from the tokens where it is.
 */
async function markerTokens(
  marker: string,
  tokenizer: Tokenizer,
  param: string,
): Promise<number[]> {
  const single = tokenizer.tokenToId(marker);
  if (single !== null) return [single];
  const [first = [], ...others] = await Promise.all(
    CONTEXTS.map(async (context) =>
      Array.from(
        await tokenizer.encode(context + marker, { addSpecialTokens: false }),
      ),
    ),
  );
  for (let length = 1; length <= first.length; length++) {
    const tail = first.slice(-length);
    if (tokenizer.decode(tail) !== marker) continue;
    const same = others.every((ids) =>
      tail.every((id, i) => ids.at(i - length) === id),
    );
    if (same) return tail;
  }
  throw unsupportedField(
    param,
    `this model's tokenizer has no token for ${marker}, so that the end of its reasoning cannot be seen in time`,
  );
}

/** Special tokens that are part of one of these texts. */
function tokensIn(
  markers: readonly string[],
  tokenizer: Tokenizer,
): ReadonlySet<number> {
  const kept = new Set<number>();
  if (markers.length === 0) return kept;
  for (const id of tokenizer.specialTokenIds) {
    const text = tokenizer.idToToken(id) ?? "";
    if (text !== "" && markers.some((marker) => marker.includes(text)))
      kept.add(id);
  }
  return kept;
}
