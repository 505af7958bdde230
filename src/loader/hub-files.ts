import { INDEX, SINGLE } from "./checkpoint.js";
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
const OTHER_WEIGHTS = /\.(safetensors|gguf|bin|pth?|onnx|msgpack|h5)$/;

/** Files to fetch from a repository, small ones first: where the weights are there, so is everything else. */
export interface ChosenFiles {
  small: RemoteFile[];
  /** The weights in one file; null: none wanted, or in the shards that the index (among `small`) names. */
  single: RemoteFile | null;
  index: RemoteFile | null;
}

/** Errors: `download_failed` where the repository has nothing that Octavo could serve. */
export function chooseFiles(
  client: HubClient,
  files: readonly RemoteFile[],
  weights: boolean,
): ChosenFiles {
  const find = (name: string): RemoteFile | null =>
    files.find(({ path }) => path === name) ?? null;
  for (const name of ["config.json", "tokenizer.json"])
    if (!find(name))
      throw client.failure(
        `expected a model in the Hugging Face layout, but the repository has no ${name}`,
      );
  const small = files.filter(
    ({ path }) => SMALL.has(path) || NAMED_TEMPLATE.test(path),
  );
  if (!weights) return { small, single: null, index: null };
  // The loader prefers the single file too.
  const single = find(SINGLE);
  const index = single ? null : find(INDEX);
  if (!single && !index) throw noSafetensors(client, files);
  return { small: index ? [...small, index] : small, single, index };
}

function noSafetensors(client: HubClient, files: readonly RemoteFile[]) {
  const others = files
    .map(({ path }) => path)
    .filter((path) => OTHER_WEIGHTS.test(path));
  const came = others.slice(0, 3).join(", ") || "no weights";
  return client.failure(
    `expected ${SINGLE} or ${INDEX} in the repository, got ${came}${others.length > 3 ? ", ..." : ""}`,
  );
}
