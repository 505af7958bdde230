import { randomBytes } from "node:crypto";
import type { Tokenizer } from "../text/tokenizer.js";
import { beginsReasoning } from "../text/turn/reasoning.js";
import {
  markersNeeded,
  TurnParser,
  type TurnOptions,
} from "../text/turn/turn-parser.js";
import type { ServerContext } from "./options.js";
import { knownTools, type ToolUse } from "./tools.js";

/** How the turns that answer a prompt are read: what every protocol's chat route shares. */
export class TurnPlan {
  private readonly options: TurnOptions;
  private readonly shortIds: boolean;
  /** Special tokens that the parsers must see. */
  readonly keepTokenIds: ReadonlySet<number>;

  /** @param prompt as the template rendered it */
  constructor(
    { dialect, tokenizer }: ServerContext,
    readonly toolUse: ToolUse,
    prompt: string,
  ) {
    const { calls, reasoning } = dialect;
    const { tools, choice, parallel } = toolUse;
    this.options = {
      reasoning:
        reasoning === null
          ? null
          : { format: reasoning, begun: beginsReasoning(reasoning, prompt) },
      calls:
        calls === null || choice === "none"
          ? null
          : {
              format: calls,
              tools: knownTools(tools),
              maxCalls: parallel ? Infinity : 1,
            },
    };
    this.shortIds = calls?.shortIds ?? false;
    this.keepTokenIds = tokensIn(markersNeeded(this.options), tokenizer);
  }

  /** A parser for one choice. */
  parser(): TurnParser {
    return new TurnParser(this.options);
  }

  /** An id for a call; templates of Mistral's models take only their own kind. */
  callId(prefix: string): string {
    return this.shortIds
      ? randomBytes(8).toString("base64url").replace(/[-_]/g, "0").slice(0, 9)
      : `${prefix}${randomBytes(12).toString("hex")}`;
  }
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
