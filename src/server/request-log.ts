import type { FastifyBaseLogger } from "fastify";
import type { Tokenizer } from "../text/tokenizer.js";
import type { GenerationSpec } from "./generation.js";

export interface RequestLogOptions {
  /** Characters of a prompt that are logged; null: all. */
  maxLength: number | null;
}

/** Logs what a prompt says, as the model sees it, and how it is to be continued: only where the operator asks for it. */
export class RequestLog {
  constructor(
    private readonly log: FastifyBaseLogger,
    private readonly tokenizer: Tokenizer,
    private readonly options: RequestLogOptions,
  ) {}

  received({ id, promptTokenIds, params, n, output }: GenerationSpec): void {
    this.log.info(
      {
        request_id: id,
        prompt: this.text(promptTokenIds),
        prompt_tokens: promptTokenIds.length,
        n,
        max_tokens: params.maxTokens,
        temperature: params.temperature,
        top_p: params.topP,
        top_k: params.topK,
        stop: output.stop,
      },
      "request received",
    );
  }

  /** A token makes a character at least, nearly always: no more of them are decoded than can be shown. */
  private text(tokenIds: Int32Array): string {
    const { maxLength } = this.options;
    const shown =
      maxLength === null ? tokenIds : tokenIds.subarray(0, maxLength + 1);
    const text = this.tokenizer.decode(shown, {
      skipSpecialTokens: false,
      spacesBetweenSpecialTokens: false,
      stripLeadingSpace: false,
    });
    return maxLength === null || text.length <= maxLength
      ? text
      : `${text.slice(0, maxLength)}...`;
  }
}
