import type { Encoder } from "../encoder/encoder.js";
import type { EngineClient } from "../engine/engine-client.js";
import type { App } from "../server/app.js";
import type { KeysFile } from "../server/keys-file.js";
import type { RequestTracer } from "../server/tracing.js";
import type { ChatTemplate } from "../text/chat-template.js";

/** Models that are loaded and the HTTP server over them, which listens nowhere yet. */
export interface LoadedApp {
  app: App;
  /** Null where there is an encoder alone. */
  engine: EngineClient | null;
  /** Null without --embedding-model. */
  encoder: Encoder | null;
  /** What requests may call the model: the text model, or the encoder where it is alone. At least one. */
  names: readonly string[];
  /** Of the text model. */
  chatTemplate: ChatTemplate | null;
  /** Null unless traces are asked for. */
  tracer: RequestTracer | null;
  /** Null unless keys are in a file. */
  keysFile: KeysFile | null;
}
