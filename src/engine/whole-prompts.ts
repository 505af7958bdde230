import type { EngineConfig } from "../core/config.js";
import { OctavoError } from "../core/errors.js";

/**
 * Without chunked prefill a step has room for the longest prompt, and nothing else cuts one. Throws invalid_config, which
 * names the flag to change and the value that works.
 */
export function checkWholePrompts(
  config: Pick<
    EngineConfig,
    "enableChunkedPrefill" | "maxNumBatchedTokens" | "longPrefillTokenThreshold"
  >,
  maxModelLen: number,
): void {
  const { maxNumBatchedTokens, longPrefillTokenThreshold } = config;
  if (config.enableChunkedPrefill) return;
  if (longPrefillTokenThreshold > 0)
    throw new OctavoError(
      "invalid_config",
      `--no-enable-chunked-prefill: expected --long-prefill-token-threshold 0, got ${longPrefillTokenThreshold}: it cuts prompts.`,
      "long-prefill-token-threshold",
    );
  if (maxNumBatchedTokens < maxModelLen)
    throw new OctavoError(
      "invalid_config",
      `--no-enable-chunked-prefill: expected --max-num-batched-tokens of at least ${maxModelLen}, the longest sequence, which one step computes; ` +
        `got ${maxNumBatchedTokens}. Set --max-num-batched-tokens ${maxModelLen} or --max-model-len ${maxNumBatchedTokens}.`,
      "max-num-batched-tokens",
    );
}
