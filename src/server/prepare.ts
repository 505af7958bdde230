import { OctavoError } from "../core/errors.js";
import type { Constraint } from "../core/constraint.js";
import type { GrammarSpec } from "../grammar/spec.js";
import type { GenerationSpec } from "./generation.js";
import type { ServerContext } from "./options.js";
import { NO_LIMITS, type KeyLimits } from "./key-limits.js";
import type { Sender } from "./origin.js";
import { truncatePrompt } from "./prompts.js";
import {
  fitMaxTokens,
  samplingParams,
  stopStrings,
  type LogprobsWanted,
  type Room,
} from "./sampling.js";
import type { CommonBody } from "./schemas.js";
import { invalidField, unsupportedField } from "./errors.js";

/** Most choices of one HTTP request, over all its prompts. */
const MAX_CHOICES = 4096;

/** The name a request may use for its model, or the one served. Errors: 404 model_not_found. */
export function checkModel(
  model: string | null | undefined,
  { servedModelNames, encoder }: ServerContext,
): string {
  if (model == null || model === "") return servedModelNames[0] ?? "";
  if (servedModelNames.includes(model)) return model;
  const why =
    encoder?.names.includes(model) === true
      ? "writes no text: it answers /v1/embeddings, /v1/rerank and /v1/score"
      : "does not exist";
  throw new OctavoError(
    "model_not_found",
    `The model \`${model}\` ${why}; this server has ${servedModelNames.map((name) => `\`${name}\``).join(", ")}.`,
    "model",
  );
}

/** Everything about a body that all its prompts share, checked before anything is encoded. */
export function checkCommon(body: CommonBody): void {
  if (body.stream !== true && body.stream_options != null)
    throw invalidField(
      "stream_options",
      "null unless stream is true",
      body.stream_options,
    );
  if (body.prompt_logprobs != null && body.stream === true)
    throw unsupportedField(
      "prompt_logprobs",
      "not available in streams; set stream to false",
    );
  if (body.prompt_logprobs === -1)
    throw unsupportedField(
      "prompt_logprobs",
      "the whole vocabulary (-1) is not available; ask for 0 to 20",
    );
  stopStrings(body.stop);
}

export interface Wanted extends LogprobsWanted {
  room: Room;
  /** Special tokens that stay in the text, for those who parse it. */
  keepTokenIds?: ReadonlySet<number>;
  /** Bounds of a free part before what must match `grammar`, if there is one; null or none: the output begins with it. */
  constraint?: Constraint | null;
  /** What the outputs must be; null or none: anything. */
  grammar?: GrammarSpec | null;
  /** The field that errors about the prompt's length name. */
  promptParam: string;
}

/** The engine requests of a body: one per prompt, choices numbered prompt by prompt. Errors: 400 that names the field. */
export async function prepareSpecs(
  context: ServerContext,
  sender: Sender,
  body: CommonBody,
  prompts: readonly Int32Array[],
  wanted: Wanted,
): Promise<GenerationSpec[]> {
  const { info } = context.engine;
  const { origin } = sender;
  const limits = origin.quota?.limits ?? NO_LIMITS;
  const n = body.n ?? 1;
  checkChoices(n * prompts.length, limits);
  const room = withinLimits(wanted.room, limits);
  const params = await samplingParams(
    body,
    wanted,
    info,
    context.tokenizer,
    context.seeds,
  );
  const stop = stopStrings(body.stop);
  const reserved = room.explicit ? (room.maxTokens ?? 1) : 1;
  const id = body.request_id || sender.id;
  const specs = prompts.map((ids, i): GenerationSpec => {
    const promptTokenIds = truncatePrompt(
      ids,
      body.truncate_prompt_tokens,
      info.maxModelLen - reserved,
    );
    const maxTokens = fitMaxTokens(
      promptTokenIds.length,
      room,
      params.minTokens,
      info.maxModelLen,
      wanted.promptParam,
    );
    return {
      id: prompts.length === 1 ? id : `${id}-${i}`,
      promptTokenIds,
      params: { ...params, maxTokens },
      n,
      priority: body.priority ?? 0,
      cacheSalt: body.cache_salt ?? "",
      constraint: wanted.constraint ?? null,
      lease: null,
      arrivalTime: origin.arrivalTime,
      requestId: id,
      origin,
      firstIndex: i * n,
      output: {
        skipSpecialTokens: body.skip_special_tokens ?? true,
        ...(wanted.keepTokenIds !== undefined && {
          keepTokenIds: wanted.keepTokenIds,
        }),
        spacesBetweenSpecialTokens: body.spaces_between_special_tokens ?? true,
        stop,
        includeStopString: body.include_stop_str_in_output ?? false,
        minTokens: params.minTokens,
      },
    };
  });
  return wanted.grammar ? withGrammar(context, specs, wanted.grammar) : specs;
}

function checkChoices(
  choices: number,
  { max_choices: limit = MAX_CHOICES }: KeyLimits,
): void {
  const most = Math.min(limit, MAX_CHOICES);
  if (choices <= most) return;
  const whose = most < MAX_CHOICES ? " with this API key" : "";
  throw invalidField(
    "n",
    `at most ${most} choices over all prompts${whose}`,
    choices,
  );
}

/** A default is cut to what the key may ask for. Errors: 400 where the request asks for more. */
function withinLimits(room: Room, { max_tokens: limit }: KeyLimits): Room {
  if (limit === undefined) return room;
  const { maxTokens, explicit, param } = room;
  if (explicit && maxTokens !== null && maxTokens > limit)
    throw invalidField(param, `at most ${limit} with this API key`, maxTokens);
  return { ...room, maxTokens: Math.min(maxTokens ?? limit, limit) };
}

/** Each prompt holds the grammar for itself. Errors: 400 for a grammar that can't be had. */
async function withGrammar(
  { grammars }: ServerContext,
  specs: readonly GenerationSpec[],
  grammar: GrammarSpec,
): Promise<GenerationSpec[]> {
  const held: GenerationSpec[] = [];
  try {
    for (const spec of specs) {
      const lease = await grammars.acquire(grammar);
      const free = spec.constraint ?? { startAfter: [], freeTokens: null };
      held.push({
        ...spec,
        constraint: { ...free, grammar: lease.ref },
        lease,
      });
    }
    return held;
  } catch (error) {
    for (const { lease } of held) lease?.release();
    throw error;
  }
}
