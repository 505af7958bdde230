import { INDEX, SINGLE } from "./checkpoint.js";
import { listOnnx } from "../core/onnx-files.js";
import type { NeededFiles } from "./hub-cache.js";
import type { HubClient, RemoteFile } from "./hub-client.js";

/** What Octavo reads beside the weights. Everything else (other formats' weights, pictures, ...) stays at the hub. */
const SMALL = new Set([
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
]);
const NAMED_TEMPLATE = /^additional_chat_templates\/[^/\\]+\.jinja$/;
/** What an encoder has beside: how its tokens become a vector, and how long its texts may be. */
const ENCODER_SMALL =
  /^(modules\.json|sentence_bert_config\.json|\d+_\w+\/config\.json)$/;
const OTHER_WEIGHTS = /\.(safetensors|gguf|bin|pth?|onnx|msgpack|h5)$/;

/** Files to fetch from a repository, small ones first: where the weights are there, so is everything else. */
export interface ChosenFiles {
  small: RemoteFile[];
  /** Weights that are needed beside the single file. */
  beside: RemoteFile[];
  /** The weights in one file; null: none wanted, or in the shards that the index (among `small`) names. */
  single: RemoteFile | null;
  index: RemoteFile | null;
}

/** Errors: `download_failed` where the repository has nothing that Octavo could serve. */
export function chooseFiles(
  client: HubClient,
  files: readonly RemoteFile[],
  { weights, graphs }: NeededFiles,
): ChosenFiles {
  const find = (name: string): RemoteFile | null =>
    files.find(({ path }) => path === name) ?? null;
  for (const name of ["config.json", "tokenizer.json"])
    if (!find(name))
      throw client.failure(
        `expected a model in the Hugging Face layout, but the repository has no ${name}`,
      );
  const small = files.filter(
    ({ path }) =>
      SMALL.has(path) ||
      NAMED_TEMPLATE.test(path) ||
      (graphs !== null && ENCODER_SMALL.test(path)),
  );
  if (!weights) return { small, beside: [], single: null, index: null };
  if (graphs !== null)
    return { small, index: null, ...chooseOnnx(client, files, graphs) };
  // The loader prefers the single file too.
  const single = find(SINGLE);
  const index = single ? null : find(INDEX);
  if (!single && !index)
    throw noWeights(client, files, `${SINGLE} or ${INDEX}`);
  return {
    small: index ? [...small, index] : small,
    beside: [],
    single,
    index,
  };
}

/** An encoder's graph, and the files that it keeps its weights in where they are not within. */
function chooseOnnx(
  client: HubClient,
  files: readonly RemoteFile[],
  graphs: readonly string[],
): Pick<ChosenFiles, "single" | "beside"> {
  const name = graphs.find((onnx) => files.some(({ path }) => path === onnx));
  const single = files.find(({ path }) => path === name);
  if (name === undefined || single === undefined)
    throw noGraph(client, files, graphs);
  const beside = files.filter(
    ({ path }) =>
      path.startsWith(name) &&
      /^[._]data(_\d+)?$/.test(path.slice(name.length)),
  );
  return { single, beside };
}

function noGraph(
  client: HubClient,
  files: readonly RemoteFile[],
  graphs: readonly string[],
) {
  const names = files.map(({ path }) => path);
  const expected = graphs.join(" or ");
  if (!names.some((name) => name.endsWith(".onnx")))
    return noWeights(client, files, expected);
  return client.failure(
    `expected ${expected} in the repository, got ${listOnnx(names)} (embedding-model-file chooses one)`,
  );
}

function noWeights(
  client: HubClient,
  files: readonly RemoteFile[],
  expected: string,
) {
  const others = files
    .map(({ path }) => path)
    .filter((path) => OTHER_WEIGHTS.test(path));
  const came = others.slice(0, 3).join(", ") || "no weights";
  return client.failure(
    `expected ${expected} in the repository, got ${came}${others.length > 3 ? ", ..." : ""}`,
  );
}
