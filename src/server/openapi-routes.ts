/** What the API's description says of a route, beside what its schema says. */
export interface RouteDoc {
  readonly summary: string;
  readonly tag: "Generate" | "Embed" | "Tokens" | "Models" | "Operate";
  /** A body, valid as it is. */
  readonly request?: object;
  /** A body that answers with 200. Text where it is not JSON. */
  readonly response: object | string;
  /** With `stream` it answers with server-sent events instead. */
  readonly streams?: boolean;
}

const MODEL = "octavo-starter";
const MESSAGES = [{ role: "user", content: "Tell me a story." }];
const CREATED = 1767225600;
const USAGE = {
  prompt_tokens: 5,
  completion_tokens: 3,
  total_tokens: 8,
  prompt_tokens_details: { cached_tokens: 0 },
};
const CARD = {
  id: MODEL,
  object: "model",
  created: CREATED,
  owned_by: "octavo",
  root: "/models/octavo-starter",
  parent: null,
  max_model_len: 2048,
};
const ENCODER = "all-MiniLM-L6-v2";
const DOCUMENTS = ["Octavo folds sheets.", "Cats sleep."];
const READ = { prompt_tokens: 14, total_tokens: 14 };
const RERANK: RouteDoc = {
  summary: "Order documents by how well they answer a query",
  tag: "Embed",
  request: { model: ENCODER, query: "What folds?", documents: DOCUMENTS },
  response: {
    id: "rerank-0123",
    model: ENCODER,
    usage: READ,
    results: [
      {
        index: 0,
        document: { text: "Octavo folds sheets." },
        relevance_score: 0.98,
      },
    ],
  },
};
const SCORE: RouteDoc = {
  summary: "How well texts go together, pair by pair",
  tag: "Embed",
  request: { model: ENCODER, text_1: "What folds?", text_2: DOCUMENTS },
  response: {
    id: "score-0123",
    object: "list",
    created: CREATED,
    model: ENCODER,
    data: [
      { index: 0, object: "score", score: 0.98 },
      { index: 1, object: "score", score: 0.01 },
    ],
    usage: READ,
  },
};
const HEALTHY = { status: "ok" };
const RESPONSE = {
  id: "resp_0123",
  object: "response",
  status: "completed",
  model: MODEL,
  output: [
    {
      id: "msg_0123",
      type: "message",
      role: "assistant",
      status: "completed",
      content: [{ type: "output_text", text: "There was", annotations: [] }],
    },
  ],
};

/** By "METHOD path", the path as OpenAPI writes it. Every route of the server has its entry. */
export const ROUTE_DOCS: Readonly<Record<string, RouteDoc>> = {
  "POST /v1/completions": {
    summary: "Continue prompts: texts or token ids",
    tag: "Generate",
    streams: true,
    request: { model: MODEL, prompt: "Once upon a time", max_tokens: 3 },
    response: {
      id: "cmpl-0123",
      object: "text_completion",
      created: CREATED,
      model: MODEL,
      choices: [
        {
          index: 0,
          text: " there was a",
          logprobs: null,
          finish_reason: "length",
          stop_reason: null,
        },
      ],
      usage: USAGE,
    },
  },
  "POST /v1/chat/completions": {
    summary: "Answer a conversation, with tools and reasoning",
    tag: "Generate",
    streams: true,
    request: { model: MODEL, messages: MESSAGES, max_tokens: 3 },
    response: {
      id: "chatcmpl-0123",
      object: "chat.completion",
      created: CREATED,
      model: MODEL,
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "There was a", refusal: null },
          logprobs: null,
          finish_reason: "length",
          stop_reason: null,
        },
      ],
      usage: USAGE,
    },
  },
  "POST /v1/messages": {
    summary: "Answer a conversation, in Anthropic's shape",
    tag: "Generate",
    streams: true,
    request: { model: MODEL, messages: MESSAGES, max_tokens: 3 },
    response: {
      id: "msg_0123",
      type: "message",
      role: "assistant",
      model: MODEL,
      content: [{ type: "text", text: "There was a" }],
      stop_reason: "max_tokens",
      stop_sequence: null,
      usage: { input_tokens: 5, output_tokens: 3 },
    },
  },
  "POST /v1/messages/count_tokens": {
    summary: "Tokens of a conversation, in Anthropic's shape",
    tag: "Tokens",
    request: { model: MODEL, messages: MESSAGES },
    response: { input_tokens: 5 },
  },
  "POST /v1/responses": {
    summary: "Answer input items; conversations can be kept",
    tag: "Generate",
    streams: true,
    request: { model: MODEL, input: "Tell me a story." },
    response: RESPONSE,
  },
  "POST /v1/responses/input_tokens": {
    summary: "Tokens of the prompt that a response would answer",
    tag: "Tokens",
    request: { model: MODEL, input: "Tell me a story." },
    response: { object: "response.input_tokens", input_tokens: 12 },
  },
  "GET /v1/responses/{id}": {
    summary: "A response that is kept",
    tag: "Generate",
    response: RESPONSE,
  },
  "DELETE /v1/responses/{id}": {
    summary: "Forget a response",
    tag: "Generate",
    response: { id: "resp_0123", object: "response", deleted: true },
  },
  "POST /v1/responses/{id}/cancel": {
    summary: "Cancel a response that is being made",
    tag: "Generate",
    response: { ...RESPONSE, status: "cancelled", output: [] },
  },
  "GET /v1/responses/{id}/input_items": {
    summary: "What a kept response answers",
    tag: "Generate",
    response: { object: "list", data: [], has_more: false },
  },
  "POST /v1/embeddings": {
    summary: "Vectors of texts or token ids; needs --embedding-model",
    tag: "Embed",
    request: { model: ENCODER, input: ["Once upon a time"] },
    response: {
      id: "embd-0123",
      object: "list",
      created: CREATED,
      model: ENCODER,
      usage: { prompt_tokens: 6, total_tokens: 6 },
      data: [{ object: "embedding", index: 0, embedding: [0.6, -0.8] }],
    },
  },
  "POST /v1/rerank": RERANK,
  "POST /v2/rerank": RERANK,
  "POST /rerank": RERANK,
  "POST /v1/score": SCORE,
  "POST /score": SCORE,
  "POST /tokenize": {
    summary: "Token ids of a text, or of messages through the chat template",
    tag: "Tokens",
    request: { prompt: "Once upon a time" },
    response: {
      count: 2,
      max_model_len: 2048,
      tokens: [403, 407],
      token_strs: null,
    },
  },
  "POST /detokenize": {
    summary: "The text of token ids",
    tag: "Tokens",
    request: { tokens: [403, 407] },
    response: { prompt: "Once upon" },
  },
  "GET /v1/models": {
    summary: "The names that requests may use",
    tag: "Models",
    response: { object: "list", data: [CARD] },
  },
  "GET /v1/models/{id}": {
    summary: "One of them",
    tag: "Models",
    response: CARD,
  },
  "GET /v1/requests/{id}": {
    summary: "What happened to a request, and when; by its x-request-id",
    tag: "Operate",
    response: {
      id: "my-request",
      object: "request",
      route: "/v1/completions",
      status: "finished",
      created: CREATED,
      prompts: [],
    },
  },
  "GET /health": {
    summary: "503 once the engine has ended",
    tag: "Operate",
    response: HEALTHY,
  },
  "GET /ping": {
    summary: "As /health",
    tag: "Operate",
    response: HEALTHY,
  },
  "POST /ping": {
    summary: "As /health",
    tag: "Operate",
    response: HEALTHY,
  },
  "GET /live": {
    summary: "503 too when work is pending and no step ends",
    tag: "Operate",
    response: HEALTHY,
  },
  "GET /ready": {
    summary: "503 too while shutting down or restarting the device",
    tag: "Operate",
    response: HEALTHY,
  },
  "GET /load": {
    summary: "Generation requests being served",
    tag: "Operate",
    response: { server_load: 0 },
  },
  "GET /version": {
    summary: "The server's version",
    tag: "Operate",
    response: { version: "0.1.0" },
  },
  "GET /metrics": {
    summary: "Metrics, as Prometheus reads them",
    tag: "Operate",
    response:
      'vllm:num_requests_running{model_name="octavo-starter",engine="0"} 0\n',
  },
  "POST /reset_prefix_cache": {
    summary: "Forget every cached prefix; needs the admin key",
    tag: "Operate",
    response: { success: true },
  },
  "GET /openapi.json": {
    summary: "This description",
    tag: "Operate",
    response: { openapi: "3.1.0" },
  },
  "GET /": {
    summary: "The web page: a chat, and live figures of the server",
    tag: "Operate",
    response: "<!doctype html>",
  },
  "GET /docs": {
    summary: "This description as a page",
    tag: "Operate",
    response: "<!doctype html>",
  },
};
