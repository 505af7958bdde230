/** `import { Octavo } from "octavo"`: a model in a Node program, without a server (docs/node-api.md). */
import { pino } from "pino";
import { OctavoError } from "../core/errors.js";
import { onnxFiles } from "../core/onnx-files.js";
import { Encoder } from "../encoder/encoder.js";
import { cpuThreads } from "../engine/cpu-threads.js";
import { EngineClient } from "../engine/engine-client.js";
import type { EngineInfo } from "../engine/messages.js";
import {
  locateModel,
  withDraftDirectory,
  type FoundModel,
  type LocateOptions,
} from "../loader/locate-model.js";
import { createContext } from "../server/context.js";
import type { ServedEncoder } from "../server/encoder/served-encoder.js";
import type { ServerContext } from "../server/options.js";
import { checkIds } from "../server/sampling.js";
import { DetokenizeSchema } from "../server/schemas.js";
import { checkBody } from "../server/validation.js";
import { loadChatTemplate } from "../text/chat-template.js";
import { loadTokenizer } from "../text/tokenizer.js";
import {
  checkLoadOptions,
  engineConfig,
  type LoadOptions,
} from "./load-options.js";
import {
  chatBody,
  completionBody,
  signalOf,
  type ChatParams,
  type GenerateParams,
  type Message,
} from "./params.js";
import { embedTexts, type EmbedParams, type EmbedResult } from "./embed.js";
import {
  chat,
  generate,
  type ChatEvent,
  type ChatResult,
  type GenerateEvent,
  type GenerateResult,
} from "./requests.js";
import { Run } from "./run.js";

export { OctavoError, type ErrorCode } from "../core/errors.js";
export type { EngineInfo } from "../engine/messages.js";
export type { TokenLogprobs } from "../server/output.js";
export type { LoadOptions, LoadProgress } from "./load-options.js";
export type { ChatParams, GenerateParams, Message } from "./params.js";
export type {
  AssistantMessage,
  ChatChoice,
  ChatEvent,
  ChatResult,
  GenerateEvent,
  GenerateResult,
  Usage,
} from "./requests.js";
export type { EmbedParams, EmbedResult } from "./embed.js";
export type { Run } from "./run.js";

/**
 * A loaded model: the engine in a thread of its own, text and tokens here. The process stays until `close`. Every
 * failure is an OctavoError whose `code` says which and whose `param` names the field.
 */
export class Octavo {
  private closing: Promise<void> | null = null;

  private constructor(
    /** What requests would call the model at a server. */
    readonly modelName: string,
    private readonly context: ServerContext,
  ) {}

  /**
   * @param model a directory in the Hugging Face layout, a hub name (OWNER/NAME, downloaded where the cache doesn't have
   *   it), or nothing: the model built into Octavo
   * Errors: `invalid_config`, `invalid_model`, `unsupported_model`, `out_of_memory`, `download_failed`, `not_found`,
   * `device_error`; `request_aborted` after the signal.
   */
  static async load(
    model?: string,
    options: LoadOptions = {},
  ): Promise<Octavo> {
    checkLoadOptions(options);
    const { revision, signal, loadFormat, onProgress } = options;
    const hooks: LocateOptions = {
      signal,
      onProgress: (phase, done, total) =>
        onProgress?.({ stage: "download", phase, done, total }),
    };
    const weights = loadFormat !== "dummy";
    const found = await locateModel(model, { ...hooks, revision, weights });
    const { directory } = found;
    const encoderFound = await findEncoder(options);
    const config = await withDraftDirectory(
      engineConfig(directory, options),
      (draft, which) => locateModel(draft, { ...hooks, ...which }),
    );
    const [tokenizer, chatTemplate] = await Promise.all([
      loadTokenizer(directory),
      loadChatTemplate(directory, options.chatTemplate),
    ]);
    const engine = await EngineClient.start(config, {
      onProgress: (phase, done, total) =>
        onProgress?.({ stage: "load", phase, done, total }),
    });
    let encoder: ServedEncoder | null = null;
    try {
      encoder = await loadEncoder(encoderFound, options);
      if (signal?.aborted === true)
        throw new OctavoError("request_aborted", "The load was aborted.");
      const context = contextOf(found, options, {
        engine,
        tokenizer,
        chatTemplate,
        encoder,
      });
      return new Octavo(found.name, context);
    } catch (error) {
      await encoder?.encoder.close();
      await engine.close();
      throw error;
    }
  }

  /** What was loaded, and what fits: maxModelLen, vocabSize, numBlocks, ... */
  get info(): EngineInfo {
    return this.context.engine.info;
  }

  /**
   * Continues a text, or token ids.
   * Errors, told by the run: `invalid_request`, `unsupported`, `context_length_exceeded`, `queue_full`,
   * `request_aborted`, `shutting_down` (closed), `device_error`.
   */
  generate(
    prompt: string | ArrayLike<number>,
    params: GenerateParams = {},
  ): Run<GenerateEvent, GenerateResult> {
    return new Run(async (sink, stopped) => {
      this.checkOpen();
      const body = completionBody(prompt, params);
      await generate(this.context, body, sink, stopped);
    }, signalOf(params));
  }

  /** Answers a conversation, messages as in OpenAI's chat completions. Errors as of `generate`. */
  chat(
    messages: readonly Message[],
    params: ChatParams = {},
  ): Run<ChatEvent, ChatResult> {
    return new Run(async (sink, stopped) => {
      this.checkOpen();
      await chat(this.context, chatBody(messages, params), sink, stopped);
    }, signalOf(params));
  }

  /**
   * Embeddings of texts (or token ids), a vector each, by the model of `embeddingModel`.
   * Errors: `unsupported` (none was given, or it is a cross-encoder), `invalid_request`, `context_length_exceeded`,
   * `queue_full`, `request_aborted`, `shutting_down` (closed), `device_error`.
   */
  async embed(
    texts: string | readonly (string | ArrayLike<number>)[],
    params: EmbedParams = {},
  ): Promise<EmbedResult> {
    this.checkOpen();
    return embedTexts(this.context.encoder, texts, params);
  }

  /** @param options addSpecialTokens: also what the model wants around a text (default true, as in `generate`) */
  async tokenize(
    text: string,
    options: { addSpecialTokens?: boolean } = {},
  ): Promise<Int32Array> {
    this.checkOpen();
    if (typeof text !== "string")
      throw new OctavoError(
        "invalid_request",
        `text: expected a string, got ${typeof text}`,
        "text",
      );
    const { addSpecialTokens = true } = options;
    return this.context.tokenizer.encode(text, { addSpecialTokens });
  }

  /** @param options skipSpecialTokens: leave them out of the text (default false, as in POST /detokenize) */
  detokenize(
    tokens: ArrayLike<number>,
    options: { skipSpecialTokens?: boolean } = {},
  ): string {
    this.checkOpen();
    const ids = Array.from(tokens);
    checkBody(DetokenizeSchema, { tokens: ids });
    checkIds("tokens", ids, this.info.vocabSize);
    const { skipSpecialTokens = false } = options;
    return this.context.tokenizer.decode(ids, {
      skipSpecialTokens,
      stripLeadingSpace: true,
    });
  }

  /** Ends the engine and its thread; what is under way fails with `shutting_down`. Idempotent. */
  close(): Promise<void> {
    this.closing ??= this.closeAll();
    return this.closing;
  }

  private async closeAll(): Promise<void> {
    const { engine, grammars, encoder } = this.context;
    try {
      await Promise.all([engine.close(), encoder?.encoder.close()]);
    } finally {
      // After the engine, which may wait for a mask of theirs.
      await grammars.close();
    }
  }

  private checkOpen(): void {
    if (this.closing !== null)
      throw new OctavoError("shutting_down", "This Octavo has been closed.");
  }
}

/** Where the embedding model is; null: none was asked for. */
async function findEncoder({
  embeddingModel,
  embeddingModelFile,
  signal,
  onProgress,
}: LoadOptions): Promise<FoundModel | null> {
  if (embeddingModel === undefined) {
    if (embeddingModelFile === undefined) return null;
    throw new OctavoError(
      "invalid_config",
      "embeddingModelFile: belongs to the model of embeddingModel, which was not given",
      "embeddingModelFile",
    );
  }
  return locateModel(embeddingModel, {
    graphs: onnxFiles(embeddingModelFile, "embeddingModelFile"),
    signal,
    onProgress: (phase, done, total) =>
      onProgress?.({ stage: "download", phase, done, total }),
  });
}

async function loadEncoder(
  found: FoundModel | null,
  options: LoadOptions,
): Promise<ServedEncoder | null> {
  if (found === null) return null;
  const { embeddingModelFile, threads = 0 } = options;
  const { maxNumQueuedReqs, maxNumQueuedTokens } = options;
  const encoder = await Encoder.load(found.directory, {
    ...(embeddingModelFile !== undefined && { modelFile: embeddingModelFile }),
    threads: cpuThreads(threads),
    ...(maxNumQueuedReqs !== undefined && { maxNumQueuedReqs }),
    ...(maxNumQueuedTokens !== undefined && { maxNumQueuedTokens }),
  });
  return { encoder, names: [found.name] };
}

function contextOf(
  { directory, name }: FoundModel,
  { toolCallParser, reasoningParser, seed }: LoadOptions,
  parts: Pick<
    ServerContext,
    "engine" | "tokenizer" | "chatTemplate" | "encoder"
  >,
): ServerContext {
  return createContext(
    {
      ...parts,
      encoder: parts.encoder ?? undefined,
      toolCallParser,
      reasoningParser,
      seed,
      servedModelNames: [name],
      modelPath: directory,
      metrics: false,
    },
    pino({ level: "silent" }),
  );
}
