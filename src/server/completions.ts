import { randomUUID } from "node:crypto";
import type { FastifyInstance } from "fastify";
import type { Detokenizer } from "../text/detokenizer.js";
import {
  answer,
  usageOf,
  type AnswerFormat,
  type WholeChoice,
} from "./answer.js";
import { invalidField } from "./errors.js";
import {
  publicFinish,
  type Generation,
  type GenerationSpec,
  type PromptRun,
} from "./generation.js";
import { completionLogprobs, promptLogprobs } from "./logprobs.js";
import type { ServerContext } from "./options.js";
import { senderOf, type Sender } from "./origin.js";
import type { Delta, TokenLogprobs } from "./output.js";
import { checkCommon, checkModel, prepareSpecs } from "./prepare.js";
import { readPrompts, type Prompt } from "./prompts.js";
import { CompletionSchema, type CompletionBody } from "./schemas.js";
import { structuredSpec } from "./structured.js";
import {
  NOT_OF_COMPLETIONS,
  refuseBestOf,
  refuseFields,
  refuseUnbuilt,
} from "./unsupported.js";

/** OpenAI's default. */
const DEFAULT_MAX_TOKENS = 16;

export function completionRoutes(
  app: FastifyInstance,
  context: ServerContext,
): void {
  app.post<{ Body: CompletionBody }>(
    "/v1/completions",
    { schema: { body: CompletionSchema } },
    async (request, reply) => {
      const { body } = request;
      const model = checkModel(body.model, context);
      const { specs, prompts } = await prepareCompletion(
        context,
        senderOf(request),
        body,
      );
      const format = new CompletionFormat(
        context,
        body,
        model,
        prompts.map(({ text }) =>
          // A truncated prompt is echoed as the model saw it.
          body.truncate_prompt_tokens == null ? text : null,
        ),
      );
      return answer(context, reply, body, specs, format);
    },
  );
}

/** A completion body as engine requests, a prompt each. Errors: 400 that names the field. */
export async function prepareCompletion(
  context: ServerContext,
  sender: Sender,
  body: CompletionBody,
): Promise<{ specs: GenerationSpec[]; prompts: readonly Prompt[] }> {
  refuseUnbuilt(body);
  refuseFields(body, NOT_OF_COMPLETIONS);
  checkCommon(body);
  checkFields(body);
  const prompts = await readPrompts(
    body.prompt,
    body.add_special_tokens ?? true,
    context.tokenizer,
    context.engine.info.vocabSize,
  );
  return { specs: await specsOf(context, sender, body, prompts), prompts };
}

function checkFields(body: CompletionBody): void {
  refuseBestOf(body.best_of, body.n ?? 1);
  if (body.max_tokens === 0 && body.echo !== true)
    throw invalidField("max_tokens", "at least 1 (or 0 with echo)", 0);
}

/** The engine computes log-probabilities of a prompt for `echo` with `logprobs` too. */
async function specsOf(
  context: ServerContext,
  sender: Sender,
  body: CompletionBody,
  prompts: readonly Prompt[],
): Promise<GenerationSpec[]> {
  const echoed = body.echo === true ? (body.logprobs ?? null) : null;
  const prompt = body.prompt_logprobs ?? null;
  const maxTokens =
    body.max_tokens === undefined ? DEFAULT_MAX_TOKENS : body.max_tokens;
  return prepareSpecs(
    context,
    sender,
    body,
    prompts.map(({ tokenIds }) => tokenIds),
    {
      logprobs: body.logprobs ?? null,
      promptLogprobs:
        echoed === null && prompt === null
          ? null
          : Math.max(echoed ?? 0, prompt ?? 0),
      room: {
        // The engine ends after a token at the earliest; it is dropped for max_tokens 0.
        maxTokens: maxTokens === 0 ? 1 : maxTokens,
        explicit: body.max_tokens != null,
        param: "max_tokens",
      },
      promptParam: "prompt",
      grammar: structuredSpec(body),
    },
  );
}

/** Answers in the shape of /v1/completions. */
class CompletionFormat implements AnswerFormat {
  private readonly id: string;
  private readonly created = Math.floor(Date.now() / 1000);
  private readonly prefix: string;
  private readonly n: number;
  private readonly numTop: number | null;
  /** A chunk between the first and the last is its text: what most tokens of most answers are. */
  private readonly plain: boolean;
  /** Per choice, once it has said something: where its text is, for text_offset. */
  private readonly places = new Map<
    number,
    { offset: number; detokenizer: Detokenizer }
  >();

  constructor(
    private readonly context: ServerContext,
    private readonly body: CompletionBody,
    private readonly model: string,
    /** Per prompt: the text as it came, or null where its tokens are to be read. */
    private readonly promptTexts: readonly (string | null | undefined)[],
  ) {
    this.id = `cmpl-${body.request_id || randomUUID()}`;
    this.n = body.n ?? 1;
    this.plain =
      body.logprobs == null &&
      body.return_token_ids !== true &&
      body.max_tokens !== 0;
    this.numTop = body.logprobs ?? null;
    this.prefix = JSON.stringify(this.head()).slice(0, -1);
  }

  whole(generation: Generation, choices: readonly WholeChoice[]): unknown {
    const rendered = choices.map((choice, index) => {
      const prompt = this.promptOf(generation, index);
      const entry = this.choice(prompt, index, this.visible(choice), true);
      if (this.body.prompt_logprobs == null) return entry;
      const { prompt_logprobs: numTop } = this.body;
      const positions = prompt.promptLogprobs;
      return {
        ...entry,
        prompt_logprobs: promptLogprobs(
          positions,
          numTop,
          this.context.tokenizer,
        ),
      };
    });
    const usage = this.usageNow(generation);
    return { ...this.head(), choices: rendered, usage };
  }

  opening(): string[] {
    return [];
  }

  chunk(generation: Generation, index: number, delta: Delta): string | null {
    if (this.plain && delta.finishReason === null && this.places.has(index))
      return delta.text === ""
        ? null
        : `${this.prefix},"choices":[{"index":${index},"text":${JSON.stringify(delta.text)},"logprobs":null,"finish_reason":null,"stop_reason":null}]${this.usageField(generation)}}`;
    const visible = this.visible(delta);
    const first = !this.places.has(index);
    const silent =
      visible.text === "" &&
      visible.finishReason === null &&
      this.numTop === null &&
      this.body.return_token_ids !== true &&
      !(first && this.body.echo === true);
    if (silent) return null;
    const prompt = this.promptOf(generation, index);
    const choice = this.choice(prompt, index, visible, first);
    return `${this.prefix},"choices":[${JSON.stringify(choice)}]${this.usageField(generation)}}`;
  }

  usage(generation: Generation): string | null {
    if (this.body.stream_options?.include_usage !== true) return null;
    const usage = JSON.stringify(this.usageNow(generation));
    return `${this.prefix},"choices":[],"usage":${usage}}`;
  }

  private usageField(generation: Generation): string {
    const options = this.body.stream_options;
    if (options?.include_usage !== true) return "";
    return options.continuous_usage_stats === true
      ? `,"usage":${JSON.stringify(this.usageNow(generation))}`
      : `,"usage":null`;
  }

  private usageNow(generation: Generation) {
    const hidden = this.body.max_tokens === 0 ? generation.completionTokens : 0;
    return usageOf(generation, hidden);
  }

  private head() {
    return {
      id: this.id,
      object: "text_completion",
      created: this.created,
      model: this.model,
    };
  }

  private promptOf(generation: Generation, index: number): PromptRun {
    const prompt = generation.prompts[Math.floor(index / this.n)];
    if (prompt === undefined) throw new RangeError(`no choice ${index}`);
    return prompt;
  }

  /** With max_tokens 0 the one token that was computed is not part of the answer. */
  private visible<T extends Delta>(delta: T): T {
    if (this.body.max_tokens !== 0) return delta;
    return {
      ...delta,
      text: "",
      tokenIds: [],
      logprobs: [],
      finishReason: delta.finishReason === null ? null : "length",
      stopReason: null,
    };
  }

  /** @param first the choice's first words: an echoed prompt goes before them */
  private choice(
    prompt: PromptRun,
    index: number,
    delta: Delta,
    first: boolean,
  ) {
    const echo = first && this.body.echo === true;
    const text = echo ? this.echoText(prompt, index) + delta.text : delta.text;
    const entry = {
      index,
      text,
      logprobs: this.logprobs(prompt, index, delta, echo),
      finish_reason: publicFinish(delta),
      stop_reason: delta.stopReason,
    };
    if (this.body.return_token_ids !== true) return entry;
    return {
      ...entry,
      prompt_token_ids: first ? Array.from(prompt.spec.promptTokenIds) : null,
      token_ids: delta.tokenIds,
    };
  }

  private echoText(prompt: PromptRun, index: number): string {
    return (
      this.promptTexts[Math.floor(index / this.n)] ??
      this.context.tokenizer.decode(prompt.spec.promptTokenIds, {
        ...prompt.spec.output,
        stripLeadingSpace: true,
      })
    );
  }

  private logprobs(
    prompt: PromptRun,
    index: number,
    delta: Delta,
    echo: boolean,
  ) {
    const place = this.places.get(index) ?? {
      offset: 0,
      detokenizer: this.context.tokenizer.createDetokenizer({
        ...prompt.spec.output,
        stripLeadingSpace: echo,
      }),
    };
    this.places.set(index, place);
    if (this.numTop === null) return null;
    const echoed: (TokenLogprobs | { token: number; logprob: null })[] = echo
      ? [
          { token: prompt.spec.promptTokenIds[0] ?? 0, logprob: null },
          ...prompt.promptLogprobs,
        ]
      : [];
    const { tokenizer } = this.context;
    const tokens = [...echoed, ...delta.logprobs];
    const start = place.offset;
    const width = (token: number): number => {
      const { length } = [...place.detokenizer.push(token)];
      place.offset += length;
      return length;
    };
    return completionLogprobs(tokens, this.numTop, start, width, tokenizer);
  }
}
