/**
 * What is asked. random: ids without meaning, which is all that a model of made-up weights needs: it soon repeats itself.
 * The others are chat messages: the answer is in the prompt (copying), its form is in the answers before it and its values
 * in the question (extraction), or it is not there (chat).
 */
export const PROMPT_KINDS = [
  "random",
  "copying",
  "extraction",
  "chat",
] as const;
export type PromptKind = (typeof PROMPT_KINDS)[number];
