/**
 * What is asked. random: ids without meaning, which is all that a model of made-up weights needs: it soon repeats itself.
 * The others are chat messages: the answer is in the prompt (copying), partly so (extraction), or not (chat).
 */
export const PROMPT_KINDS = [
  "random",
  "copying",
  "extraction",
  "chat",
] as const;
export type PromptKind = (typeof PROMPT_KINDS)[number];
