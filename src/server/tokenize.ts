import type { FastifyInstance } from "fastify";
import { OctavoError } from "../core/errors.js";
import { checkMessages, renderPrompt } from "./messages.js";
import type { ServerContext } from "./options.js";
import { checkModel } from "./prepare.js";
import { checkIds } from "./sampling.js";
import {
  DetokenizeSchema,
  TokenizeSchema,
  type DetokenizeBody,
  type TokenizeBody,
} from "./schemas.js";

/** POST /tokenize (a prompt, or messages through the chat template) and /detokenize, in vLLM's shapes. */
export function tokenizeRoutes(
  app: FastifyInstance,
  context: ServerContext,
): void {
  const { tokenizer, engine } = context;
  app.post<{ Body: TokenizeBody }>(
    "/tokenize",
    { schema: { body: TokenizeSchema } },
    async ({ body }) => {
      checkModel(body.model, context);
      const ids = await encode(context, body);
      const tokens = Array.from(ids);
      return {
        count: tokens.length,
        max_model_len: engine.info.maxModelLen,
        tokens,
        token_strs:
          body.return_token_strs === true
            ? tokens.map((id) => tokenizer.idToToken(id) ?? "")
            : null,
      };
    },
  );

  app.post<{ Body: DetokenizeBody }>(
    "/detokenize",
    { schema: { body: DetokenizeSchema } },
    async ({ body }) => {
      checkModel(body.model, context);
      checkIds("tokens", body.tokens, engine.info.vocabSize);
      const options = { skipSpecialTokens: false, stripLeadingSpace: true };
      return { prompt: tokenizer.decode(body.tokens, options) };
    },
  );
}

function encode(
  { tokenizer, templates }: ServerContext,
  body: TokenizeBody,
): Promise<Int32Array> {
  const prompt = body.prompt ?? null;
  const messages = body.messages ?? null;
  if ((prompt === null) === (messages === null))
    throw new OctavoError(
      "invalid_request",
      `prompt: expected either prompt or messages, got ${prompt === null ? "neither" : "both"}`,
      "prompt",
    );
  const text =
    messages === null
      ? (prompt ?? "")
      : renderPrompt(
          templates.of(body.chat_template).chatTemplate,
          checkMessages(messages),
          body,
        );
  return tokenizer.encode(text, {
    addSpecialTokens: body.add_special_tokens ?? messages === null,
  });
}
