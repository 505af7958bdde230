import { OctavoError } from "../core/errors.js";
import { environmentName } from "./flags.js";
import { SERVE_FLAGS, type ServeOptions } from "./serve-flags.js";

/** What a server of an encoder alone can be told; everything else is about a text model. */
const WITHOUT_TEXT: readonly string[] = [
  "config",
  "host",
  "port",
  "uds",
  "ssl-keyfile",
  "ssl-certfile",
  "api-key",
  "api-keys-file",
  "admin-api-key",
  "metrics-api-key",
  "allowed-origins",
  "shutdown-timeout",
  "liveness-timeout",
  "max-num-queued-reqs",
  "max-num-queued-tokens",
  "log-level",
  "disable-log-stats",
  "metrics-compat",
  "revision",
  "threads",
  "embedding-model",
  "embedding-model-file",
  "served-embedding-model-name",
];

/** Whether an embedding model is all there is to serve: then the built-in text model is not started beside it. */
export function isEncoderAlone(
  model: string | undefined,
  { embeddingModel }: Pick<ServeOptions, "embeddingModel">,
): boolean {
  return model === undefined && embeddingModel !== undefined;
}

/** @param isGiven whether the user set a flag, wherever. Errors: `invalid_config` for one that needs a text model. */
export function refuseTextFlags(isGiven: (flag: string) => boolean): void {
  const given = SERVE_FLAGS.find(
    ({ name }) => !WITHOUT_TEXT.includes(name) && isGiven(name),
  );
  if (given === undefined) return;
  const { name } = given;
  const hint =
    name === "served-model-name"
      ? "--served-embedding-model-name names the embedding model"
      : "octavo serve MODEL --embedding-model NAME serves both";
  throw new OctavoError(
    "invalid_config",
    `--${name} (${environmentName(name)}) belongs to a text model, and there is none beside --embedding-model; ${hint}.`,
    name,
  );
}
