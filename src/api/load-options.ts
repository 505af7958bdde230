import { Type, type Static, type TSchema } from "typebox";
import { ENGINE_DEFAULTS, type EngineConfig } from "../core/config.js";
import { parseSpeculativeConfig } from "../core/speculative-config.js";
import { OctavoError } from "../core/errors.js";
import { checkBody } from "../server/validation.js";
import { checkSignal } from "./run.js";

const integer = (minimum: number, maximum = Number.MAX_SAFE_INTEGER) =>
  Type.Optional(Type.Integer({ minimum, maximum }));
const oneOf = <const T extends string[]>(...values: T) =>
  Type.Optional(Type.Unsafe<T[number]>({ type: "string", enum: values }));
const text = () => Type.Optional(Type.String());
const flag = () => Type.Optional(Type.Boolean());

/** `octavo serve`'s flags of the model and the engine, by their names in camelCase and with their defaults. */
const LoadSchema = Type.Object({
  revision: text(),
  modelFile: text(),
  loadFormat: oneOf("auto", "dummy"),
  embeddingModel: text(),
  embeddingModelFile: text(),
  /** A Jinja template or the path of one, instead of the model's own. */
  chatTemplate: text(),
  toolCallParser: text(),
  reasoningParser: text(),
  device: oneOf("auto", "cpu", "cuda", "cuda-sim", "reference", "null"),
  threads: integer(0, 1024),
  dtype: oneOf("auto", "half", "float16", "float", "float32"),
  kvCacheDtype: oneOf("auto", "f32", "float32", "f16", "float16", "int8"),
  cpuActivations: oneOf("auto", "int8", "f32"),
  maxModelLen: integer(1, 1 << 24),
  maxNumSeqs: integer(1, 4096),
  maxNumBatchedTokens: integer(1, 1 << 20),
  longPrefillTokenThreshold: integer(0),
  enableChunkedPrefill: flag(),
  enablePrefixCaching: flag(),
  asyncScheduling: flag(),
  enforceEager: flag(),
  /** As `--speculative-config` takes it: {"method": "ngram", "num_speculative_tokens": 5}. */
  speculativeConfig: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  batchInvariant: flag(),
  tileTuning: flag(),
  schedulingPolicy: oneOf("fcfs", "priority"),
  gpuMemoryUtilization: Type.Optional(
    Type.Number({ exclusiveMinimum: 0, maximum: 1 }),
  ),
  numGpuBlocksOverride: integer(1, 1 << 28),
  maxNumQueuedReqs: integer(0),
  maxNumQueuedTokens: integer(0),
  seed: integer(0, 0xffffffff),
});

/** Of a download ("files", then "weights"), of measuring tiles (GPU; in measurements), then of reading the weights; in bytes. */
export interface LoadProgress {
  readonly stage: "download" | "load";
  readonly phase: "files" | "tiles" | "weights";
  readonly done: number;
  readonly total: number;
}

export interface LoadOptions extends Static<typeof LoadSchema> {
  onProgress?: (progress: LoadProgress) => void;
  /** Stops a download, and the load at its end: `load` rejects with request_aborted. */
  signal?: AbortSignal;
}

/** Errors: `invalid_config` that names the option. */
export function checkLoadOptions(options: LoadOptions): void {
  const { onProgress, signal, ...plain } = options;
  refuseUnknown(plain, LoadSchema, "invalid_config");
  if (onProgress !== undefined && typeof onProgress !== "function")
    throw new OctavoError(
      "invalid_config",
      "onProgress: expected a function",
      "onProgress",
    );
  checkSignal(signal);
  // An option that is there without a value is as good as absent.
  const given = Object.entries(plain).filter(([, v]) => v !== undefined);
  try {
    checkBody(LoadSchema, Object.fromEntries(given));
  } catch (error) {
    if (!(error instanceof OctavoError)) throw error;
    throw new OctavoError("invalid_config", error.message, error.param);
  }
  speculation(options);
}

function speculation({
  speculativeConfig,
}: LoadOptions): Pick<EngineConfig, "speculativeConfig"> {
  if (speculativeConfig === undefined) return { speculativeConfig: null };
  return {
    speculativeConfig: parseSpeculativeConfig(
      speculativeConfig,
      "speculativeConfig",
    ),
  };
}

/** Errors: `code`, naming the first field that `schema` does not have. */
export function refuseUnknown(
  fields: object,
  schema: TSchema,
  code: "invalid_config" | "invalid_request",
): void {
  const known = Object.keys(
    (schema as { properties?: object }).properties ?? {},
  );
  const unknown = Object.keys(fields).find((field) => !known.includes(field));
  if (unknown !== undefined)
    throw new OctavoError(
      code,
      `${unknown}: there is no such option; expected one of ${known.join(", ")}`,
      unknown,
    );
}

/** Checked options as the engine knows them. */
export function engineConfig(
  directory: string,
  options: LoadOptions,
): EngineConfig {
  const given = Object.entries(options).filter(
    ([name, value]) => name in ENGINE_DEFAULTS && value !== undefined,
  );
  return {
    ...ENGINE_DEFAULTS,
    ...(Object.fromEntries(given) as Partial<EngineConfig>),
    ...speculation(options),
    model: directory,
  };
}
