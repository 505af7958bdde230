import { ENGINE_DEFAULTS } from "../../../src/core/config.js";
import type { EngineConfig } from "../../../src/core/config.js";
import {
  EventKind,
  readEvents,
  type TokenEvent,
} from "../../../src/core/events.js";
import {
  NEUTRAL_SAMPLING,
  type SamplingParams,
} from "../../../src/core/sampling-params.js";
import {
  startEngine,
  type StartedEngine,
} from "../../../src/engine/start-engine.js";
import {
  loadChatTemplate,
  type ChatTemplate,
} from "../../../src/text/chat-template.js";
import { loadTokenizer, type Tokenizer } from "../../../src/text/tokenizer.js";
import type { Dialogue } from "../corpus/dialogue.js";

export interface Answer {
  prompt: readonly number[];
  tokens: readonly number[];
  text: string;
}

const END = "<|im_end|>";

/** A model in this process, asked in batches at temperature 0. */
export class Session {
  private nextHandle = 1;

  private constructor(
    private readonly started: StartedEngine,
    private readonly tokenizer: Tokenizer,
    private readonly template: ChatTemplate,
    private readonly stopTokenIds: number[],
  ) {}

  static async open(
    directory: string,
    config: Partial<EngineConfig> = {},
  ): Promise<Session> {
    const tokenizer = await loadTokenizer(directory);
    const template = await loadChatTemplate(directory);
    let stop: number[] = [];
    const started = await startEngine(
      { ...ENGINE_DEFAULTS, model: directory, device: "cpu", ...config },
      (message) => {
        if (message.type === "ready") stop = message.info.eosTokenIds;
      },
    );
    return new Session(started, tokenizer, template, stop);
  }

  close(): void {
    this.started.runner.close();
  }

  /** What the model says next in each conversation. */
  async answer(dialogues: readonly Dialogue[]): Promise<Answer[]> {
    const prompts = await Promise.all(
      dialogues.map((one) => this.encode(one, true)),
    );
    const tokens = this.run(
      prompts,
      {
        maxTokens: 300,
        stopTokenIds: this.stopTokenIds,
        eosTokenIds: this.stopTokenIds,
      },
      (event, out: number[]) => {
        if (event.kind === EventKind.token) out.push(event.token);
      },
    );
    return tokens.map((said, i) => ({
      prompt: [...(prompts[i] ?? [])],
      tokens: said,
      text: this.tokenizer
        .decode(said, { skipSpecialTokens: false, stripLeadingSpace: false })
        .replace(END, ""),
    }));
  }

  /** exp of the mean negative log-likelihood of all tokens but each text's first. */
  async perplexity(dialogues: readonly Dialogue[]): Promise<number> {
    const prompts = await Promise.all(
      dialogues.map((one) => this.encode(one, false)),
    );
    const logprobs = this.run(
      prompts,
      { maxTokens: 1, promptLogprobs: 0 },
      (event, out: number[]) => {
        if (
          event.kind === EventKind.promptLogprob &&
          Number.isFinite(event.logprob)
        )
          out.push(event.logprob);
      },
    ).flat();
    return Math.exp(
      -logprobs.reduce((sum, value) => sum + value, 0) / logprobs.length,
    );
  }

  /**
   * How often this model's most likely token is the one that another model said, given everything that the other said
   * before: the chance that a draft is accepted when all before it were, at temperature 0.
   */
  async agreement(
    spoken: readonly { prompt: readonly number[]; tokens: readonly number[] }[],
  ): Promise<number> {
    const prompts = spoken.map(({ prompt, tokens }) =>
      Int32Array.from([...prompt, ...tokens]),
    );
    const best = this.run(
      prompts,
      { maxTokens: 1, promptLogprobs: 1 },
      (event, out: number[]) => {
        if (event.kind === EventKind.promptLogprob)
          out.push(event.topIds[0] ?? -1);
      },
    );
    let same = 0;
    let total = 0;
    spoken.forEach(({ tokens }, i) => {
      const guesses = best[i]?.slice(-tokens.length) ?? [];
      same += tokens.filter((token, k) => guesses[k] === token).length;
      total += tokens.length;
    });
    return same / total;
  }

  private async encode(
    dialogue: Dialogue,
    addGenerationPrompt: boolean,
  ): Promise<Int32Array> {
    const text = this.template.render(
      dialogue.messages.map((message) => ({ ...message })),
      { tools: dialogue.tools ?? null, addGenerationPrompt },
    );
    return this.tokenizer.encode(text, { addSpecialTokens: false });
  }

  private run(
    prompts: readonly Int32Array[],
    params: Partial<SamplingParams>,
    take: (event: TokenEvent, out: number[]) => void,
  ): number[][] {
    const { engine } = this.started;
    const first = this.nextHandle;
    const out = prompts.map((): number[] => []);
    const bypassPrefixCache = params.promptLogprobs !== undefined;
    for (const promptTokenIds of prompts) {
      const handle = this.nextHandle++;
      engine.add({
        id: String(handle),
        handle,
        promptTokenIds,
        params: { ...NEUTRAL_SAMPLING, ...params },
        n: 1,
        priority: 0,
        cacheSalt: "",
        arrivalTime: 0,
        bypassPrefixCache,
      });
    }
    while (!engine.idle) {
      const result = engine.step();
      if (result)
        readEvents(result.events.toMessage(), (event) =>
          take(event, out[event.handle - first] ?? []),
        );
    }
    return out;
  }
}
