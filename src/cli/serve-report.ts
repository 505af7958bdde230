import type { EncoderInfo } from "../encoder/encoder.js";
import type { DraftInfo, EngineInfo } from "../engine/messages.js";
import type { RunnerGraphs } from "../runner/addon.js";
import { formatBytes, formatCount } from "./format.js";
import type { LoadedApp } from "./loaded-app.js";
import type { ServeOptions } from "./serve-flags.js";

/** What fits, before it is loaded. */
export function planTable(directory: string, info: EngineInfo): string {
  const kvTokens = info.numBlocks * info.blockSize;
  const rows = [
    ["Model", `${directory} (${info.architecture}, ${info.quantization})`],
    [
      "Device",
      `${info.device}: ${info.deviceDescription}, ${info.isa}, ${info.threads} threads, ${formatBytes(info.availableMemory)} available`,
    ],
    ["Weights", formatBytes(info.weightBytes)],
    [
      "KV cache",
      `${formatBytes(info.numBlocks * info.kvBytesPerBlock)}: ${formatCount(kvTokens)} tokens (${formatCount(info.numBlocks)} blocks of ${info.blockSize}, ${info.kvCacheDtype})`,
    ],
    [
      "Workspace",
      `${formatBytes(info.workspaceBytes)}: ${formatCount(info.maxNumBatchedTokens)} tokens a step, ${formatCount(info.maxNumSeqs)} sequences`,
    ],
    [
      "Context",
      `${formatCount(info.maxModelLen)} tokens; ${(kvTokens / info.maxModelLen).toFixed(1)} sequences of full length fit at once`,
    ],
  ];
  if (info.draft) rows.push(["Draft", draftText(info.draft, info)]);
  if (info.linearKernels !== null) rows.push(["Linears", info.linearKernels]);
  return rows
    .map(([name, value]) => `  ${(name ?? "").padEnd(10)} ${value ?? ""}`)
    .join("\n");
}

/** What capturing decode graphs took, once they are there. */
export function graphLine({ count, seconds, bytes }: RunnerGraphs): string {
  return `Captured ${count} decode graphs in ${seconds.toFixed(2)} s; they take ${formatBytes(bytes)} of the device.`;
}

function draftText(draft: DraftInfo, info: EngineInfo): string {
  const kv = draft.numBlocks * draft.kvBytesPerBlock;
  const linears =
    draft.linearKernels === null ? "" : `; ${draft.linearKernels}`;
  return `${draft.model} (${draft.architecture}, ${draft.quantization}): ${formatBytes(draft.weightBytes)} of weights, ${formatBytes(kv)} of KV cache (${info.kvCacheDtype}), ${formatBytes(draft.workspaceBytes)} of workspace, ${formatCount(draft.maxModelLen)} tokens${linears}`;
}

/** What the embedding model turned out to be. */
export function encoderLine(info: EncoderInfo): string {
  const how =
    info.kind === "cross-encoder"
      ? `cross-encoder, scores by ${info.activation}`
      : [
          `${formatCount(info.width)} numbers`,
          `pooling: ${info.pooling}`,
          info.normalize ? "normalized" : "not normalized",
          ...(info.described ? [] : ["by default: no modules.json says"]),
        ].join(", ");
  return `  ${"Encoder".padEnd(10)} ${info.modelFile} (${how}), ${formatCount(info.maxLength)} tokens, ${info.threads} threads`;
}

/** A request that shows what a server is for. */
export interface Example {
  /** Without /v1. */
  readonly route: string;
  readonly body: object;
}

export function exampleOf({
  names,
  chatTemplate,
  encoder,
}: Pick<LoadedApp, "names" | "chatTemplate" | "encoder">): Example {
  const model = names[0] ?? "";
  if (chatTemplate?.available === true) {
    const messages = [{ role: "user", content: "Hello!" }];
    return {
      route: "chat/completions",
      body: { model, messages, stream: true },
    };
  }
  if (chatTemplate !== null) {
    const prompt = "Once upon a time";
    const body = { model, prompt, max_tokens: 64, stream: true };
    return { route: "completions", body };
  }
  const texts = ["A cat sleeps.", "A dog runs."];
  if (encoder?.info.kind === "embedding")
    return { route: "embeddings", body: { model, input: texts } };
  const query = "Which animal sleeps?";
  return { route: "rerank", body: { model, query, documents: texts } };
}

/** Where the web page is. A server on every interface is reached from this machine as localhost. */
export function pageLine(address: string): string {
  const url = address.replace(
    /\/\/(0\.0\.0\.0|\[::\])(?=:\d+$)/,
    "//localhost",
  );
  return `Or open ${url}/ in a browser.`;
}

/** A request to paste into a shell. */
export function pasteLine(
  address: string,
  { route, body }: Example,
  options: ServeOptions,
): string {
  const target =
    options.uds === undefined
      ? address
      : `--unix-socket ${options.uds} http://localhost`;
  const key =
    options.apiKey === undefined && options.apiKeysFile === undefined
      ? ""
      : ` -H "authorization: Bearer $OCTAVO_API_KEY"`;
  return `Try: curl -N ${target}/v1/${route} -H "content-type: application/json"${key} -d '${JSON.stringify(body)}'`;
}
