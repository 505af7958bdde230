import { randomBytes } from "node:crypto";
import type { Constraint } from "../core/constraint.js";
import type { Tokenizer } from "../text/tokenizer.js";
import {
  beginsReasoning,
  type ReasoningFormat,
} from "../text/turn/reasoning.js";
import {
  markersNeeded,
  TurnParser,
  type TurnOptions,
} from "../text/turn/turn-parser.js";
import { unsupportedField } from "./errors.js";
import type { ServerContext } from "./options.js";
import { knownTools, type ToolUse } from "./tools.js";

export interface TurnWishes {
  readonly toolUse: ToolUse;
  /** The answer must match a grammar, from the end of its reasoning on. */
  readonly constrained?: boolean;
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
    /** What bounds the reasoning; null: nothing does. */
    readonly constraint: Constraint | null,
    private readonly shortIds: boolean,
  ) {}

  /**
   * @param rendered the prompt as the template has it
   * Errors: 400 for a bound on reasoning that nobody can see.
   */
  static async make(
    { dialect, tokenizer }: ServerContext,
    rendered: string,
    { toolUse, constrained, continued, reasoningBudget }: TurnWishes,
  ): Promise<TurnPlan> {
    const { calls, reasoning } = dialect;
    const { tools, choice, parallel } = toolUse;
    if (choice !== "none" && choice !== "auto")
      throw unsupportedField("tool_choice", "only none and auto are built");
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
    const options: TurnOptions = {
      reasoning: reasoning === null ? null : { format: reasoning, begun },
      calls:
        calls === null || choice === "none"
          ? null
          : {
              format: calls,
              tools: knownTools(tools),
              maxCalls: parallel ? Infinity : 1,
            },
    };
    return new TurnPlan(
      prompt,
      options,
      tokensIn(markersNeeded(options), tokenizer),
      begun && (reasoningBudget !== null || constrained === true)
        ? {
            grammar: null,
            startAfter: await markerTokens(
              reasoning.end,
              tokenizer,
              reasoningBudget?.param ?? "response_format",
            ),
            freeTokens: reasoningBudget?.tokens ?? null,
          }
        : null,
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

/** Leaves it to no model whether it thinks first: a bound counts from where the reasoning begins. */
function beginReasoning(format: ReasoningFormat, prompt: string): string {
  const text = prompt.trimEnd();
  const decided = text.endsWith(format.start) || text.endsWith(format.end);
  return decided ? prompt : `${prompt}${format.start}\n`;
}

/** What may stand before a marker, and be one token with its beginning. */
const CONTEXTS = ["\n", ".", "a", " ", "}"];

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
