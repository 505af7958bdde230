import { Type, type Static } from "typebox";
import { anyOf, boolean, integer, string } from "../schemas.js";

/* Bodies of the encoder's routes, in vLLM's shapes; as in ../schemas.ts, null means "absent". */

const common = {
  model: string(),
  /** Tokens that are kept of a longer input; -1: as many as the model takes. */
  truncate_prompt_tokens: integer({ minimum: -1, maximum: 0x7fffffff }),
  user: string(4096),
  /** Ours and vLLM's: false leaves out what comes last, the sigmoid or the normalization. */
  use_activation: boolean(),
};

export const EmbeddingSchema = Type.Object({
  ...common,
  input: Type.Unknown({
    description: "a text, token ids, or a list of either",
  }),
  encoding_format: Type.Optional(
    Type.Unsafe<"float" | "base64" | null>({
      enum: ["float", "base64", null],
    }),
  ),
  dimensions: integer({ minimum: 1, maximum: 0x7fffffff }),
  add_special_tokens: boolean(),
  /** vLLM's older name of use_activation. */
  normalize: boolean(),
  /** Jina's name of it. */
  normalized: boolean(),
});
export type EmbeddingBody = Static<typeof EmbeddingSchema>;

const scoring = {
  ...common,
  /** vLLM's older name of use_activation. */
  activation: boolean(),
};

export const RerankSchema = Type.Object({
  ...scoring,
  query: Type.String(),
  documents: Type.Array(Type.Unknown(), { minItems: 1, maxItems: 2048 }),
  top_n: integer({ minimum: 0, maximum: 0x7fffffff }),
  return_documents: boolean(),
});
export type RerankBody = Static<typeof RerankSchema>;

const texts = anyOf("a text, or a list of them");
export const ScoreSchema = Type.Object({
  ...scoring,
  text_1: texts,
  text_2: texts,
  queries: texts,
  documents: texts,
  items: texts,
  data_1: texts,
  data_2: texts,
});
export type ScoreBody = Static<typeof ScoreSchema>;
