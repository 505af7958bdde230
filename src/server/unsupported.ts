import { unsupportedField } from "./errors.js";

type Body = Readonly<Record<string, unknown>>;

const absent = (value: unknown): boolean =>
  value === null || value === undefined;
const off = (value: unknown): boolean => absent(value) || value === false;
const empty = (value: unknown): boolean =>
  absent(value) || value === "" || (Array.isArray(value) && value.length === 0);
const textOnly = (value: unknown): boolean =>
  absent(value) ||
  (Array.isArray(value) && value.every((entry) => entry === "text"));

/** A field that would change the output and is not built: which values are harmless, and what to say of others. */
export type Refusal = readonly [
  field: string,
  harmless: (value: unknown) => boolean,
  why: string,
];

const UNBUILT: readonly Refusal[] = [
  ["structural_tag", absent, "use structured_outputs or tools"],
  ["suffix", empty, "filling in the middle is not built"],
  ["use_beam_search", off, "beam search is not built"],
  ["length_penalty", (v) => absent(v) || v === 1, "beam search is not built"],
  ["audio", absent, "audio output is not built"],
  ["modalities", textOnly, 'only ["text"] is built'],
  ["prediction", absent, "predicted outputs are not built"],
  ["functions", empty, "functions are not built; use tools"],
  [
    "function_call",
    (v) => absent(v) || v === "none",
    "functions are not built; use tool_choice",
  ],
  ["web_search_options", absent, "web search is not built"],
  ["verbosity", absent, "this model has no such setting"],
  ["mm_processor_kwargs", absent, "images and audio are not built"],
  ["prompt_embeds", absent, "prompt embeddings are not built"],
  ["kv_transfer_params", absent, "KV transfer is not built"],
  ["logits_processors", empty, "logits processors are not built"],
  ["return_tokens_as_token_ids", off, "not built; use return_token_ids"],
  ["lora", absent, "adapters are not built yet"],
  ["lora_request", absent, "adapters are not built yet"],
];

/** Throws 400 for the first field of `body` that asks for something that is not built. */
export function refuseUnbuilt(body: Body): void {
  refuseFields(body, UNBUILT);
}

/** As `refuseUnbuilt`, with a route's own list. */
export function refuseFields(body: object, refusals: readonly Refusal[]): void {
  for (const [field, harmless, why] of refusals)
    if (!harmless((body as Body)[field])) throw unsupportedField(field, why);
}
