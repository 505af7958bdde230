/** Every field of a request is taken, refused by its name, or said to change nothing: docs/parameters.md. */
import { readFileSync } from "node:fs";
import type { TSchema } from "typebox";
import { describe, expect, it } from "vitest";
import { MessagesSchema } from "../../src/server/anthropic-schema.js";
import { ResponsesSchema } from "../../src/server/responses/schema.js";
import { ChatSchema, CompletionSchema } from "../../src/server/schemas.js";
import { OpenAITypes } from "./responses/openai-types.js";
import {
  says,
  ScriptedEngine,
  serve,
  sseEvents,
  type Json,
} from "./support.js";

const docs = readFileSync("docs/parameters.md", "utf8");
const messages = [{ role: "user", content: "a" }];
const chats = new OpenAITypes("resources/chat/completions/completions.d.ts");
const completions = new OpenAITypes("resources/completions.d.ts");
const anthropic = new OpenAITypes(
  "resources/messages/messages.d.ts",
  "@anthropic-ai/sdk",
);

interface Route {
  readonly url: string;
  readonly schema: TSchema & { properties: object };
  readonly body: object;
  readonly fields: readonly string[];
}

const ROUTES: readonly Route[] = [
  {
    url: "/v1/chat/completions",
    schema: ChatSchema,
    body: { messages },
    fields: chats.fieldsOf("ChatCompletionCreateParamsBase"),
  },
  {
    url: "/v1/completions",
    schema: CompletionSchema,
    body: { prompt: "a" },
    fields: completions.fieldsOf("CompletionCreateParamsBase"),
  },
  {
    url: "/v1/messages",
    schema: MessagesSchema,
    body: { model: "tiny", max_tokens: 3, messages },
    fields: anthropic.fieldsOf("MessageCreateParamsBase"),
  },
];

/** Of vLLM's requests, beyond those of OpenAI's. */
const OF_VLLM = [
  ..."use_beam_search top_k min_p repetition_penalty length_penalty stop_token_ids include_stop_str_in_output".split(
    " ",
  ),
  ..."ignore_eos min_tokens skip_special_tokens spaces_between_special_tokens truncate_prompt_tokens".split(
    " ",
  ),
  ..."prompt_logprobs allowed_token_ids bad_words echo add_special_tokens structured_outputs priority request_id".split(
    " ",
  ),
  ..."logits_processors return_tokens_as_token_ids return_token_ids cache_salt kv_transfer_params vllm_xargs".split(
    " ",
  ),
  ..."guided_json guided_regex guided_choice guided_grammar guided_json_object guided_whitespace_pattern".split(
    " ",
  ),
];
const OF_VLLMS_CHATS =
  "include_reasoning add_generation_prompt continue_final_message documents chat_template chat_template_kwargs mm_processor_kwargs media_io_kwargs".split(
    " ",
  );

/** Values that would change an answer, where true would not do. */
const VALUES: Readonly<Record<string, unknown>> = {
  functions: [{ name: "f" }],
  modalities: ["audio"],
  include_reasoning: false,
  add_generation_prompt: false,
  parallel_tool_calls: false,
  logits_processors: ["x"],
  media_io_kwargs: { a: 1 },
  vllm_xargs: { a: 1 },
  documents: [{ text: "a" }],
  tools: [{ type: "function", function: { name: "f" } }],
  tool_choice: "required",
  n: 2,
  best_of: 2,
  mcp_servers: [{}],
  stop: "a",
  suffix: "a",
  stop_sequences: ["a"],
  system: "a",
  instructions: "a",
  chat_template_kwargs: { a: 1 },
  output_config: { effort: "low" },
  text: { format: { type: "json_object" } },
  reasoning: { effort: "low" },
};

/** What routes of the same name say otherwise, or what changes nothing on a route that has no tools. */
const MEANINGLESS: Readonly<Record<string, readonly string[]>> = {
  "/v1/completions": ["parallel_tool_calls"],
  "/v1/messages": ["stream_options"],
};

const knows = ({ schema }: Route, field: string): boolean =>
  field in schema.properties;

describe.each(ROUTES)("$url", (route) => {
  const { url, body, fields } = route;

  it("takes or refuses every field of the client package's types", async () => {
    const { post } = await serve(new ScriptedEngine(says("x")));
    expect(fields.length).toBeGreaterThan(10);
    for (const field of fields) {
      expect(docs, field).toContain(`\`${field}\``);
      if (knows(route, field)) continue;
      const value = VALUES[field] ?? true;
      const response = await post(url, { ...body, [field]: value });
      expect(response.statusCode, field).toBe(400);
      expect(messageOf(response.json()), field).toMatch(
        new RegExp(`^${field}: `),
      );
    }
  });

  it("refuses what only other routes take, and takes it where it says nothing", async () => {
    const engine = new ScriptedEngine(says("x"));
    const { post } = await serve(engine);
    const own = new Set(Object.keys(route.schema.properties));
    const others = [
      ...[ChatSchema, CompletionSchema, MessagesSchema].flatMap(
        ({ properties }) => Object.keys(properties),
      ),
      ...["input", "instructions", "max_output_tokens", "previous_response_id"],
      ...["reasoning"],
      ...OF_VLLM,
      ...(url === "/v1/messages" ? [] : [...OF_VLLMS_CHATS, "text"]),
    ].filter((field) => !own.has(field));
    const harmless = [
      ...(MEANINGLESS[url] ?? []),
      ...hintsOf(ResponsesSchema),
      ...hintsOf(MessagesSchema),
    ];
    for (const field of new Set(others)) {
      const value = VALUES[field] ?? true;
      const response = await post(url, { ...body, [field]: value });
      const taken = harmless.includes(field);
      expect(response.statusCode, field).toBe(taken ? 200 : 400);
      if (!taken) expect(messageOf(response.json()), field).toContain(field);
      const nothing = await post(url, { ...body, [field]: null });
      expect(nothing.statusCode, field).toBe(200);
    }
  });

  it("answers the same whatever the hints to queues, caches and accounts", async () => {
    const { post } = await serve(new ScriptedEngine(says("x")));
    for (const field of [...hintsOf(route.schema), "unknown_field"]) {
      const { type } = (route.schema.properties[
        field as keyof typeof route.schema.properties
      ] ?? { type: "string" }) as { type: string | string[] };
      const value = type.includes("object")
        ? { a: "b" }
        : type.includes("boolean")
          ? true
          : "a";
      const response = await post(url, { ...body, [field]: value });
      expect(response.statusCode, `${field} ${response.body}`).toBe(200);
    }
  });
});

/** Those that are in a schema and change nothing, as the page says. */
function hintsOf(schema: { properties: object }): string[] {
  const row = /^\| without effect \|(.*)\|$/m.exec(docs)?.[1] ?? "";
  const named = [...row.matchAll(/`(\w+)`/g)].map(([, name]) => name ?? "");
  expect(named.length).toBeGreaterThan(10);
  return named.filter((name) => name in schema.properties);
}

/** OpenAI's errors begin with the field; so do Anthropic's. */
function messageOf({ error }: Json): string {
  return String(error.message);
}

describe("answers have what the client packages' types ask for", () => {
  it("of chats, whole and streamed", async () => {
    const { post } = await serve(new ScriptedEngine(says("h€llo")));
    const body = { messages, n: 2, logprobs: true, top_logprobs: 2 };
    const whole = await post("/v1/chat/completions", body);
    expect(chats.faults("ChatCompletion", whole.json())).toEqual([]);
    const streamed = await post("/v1/chat/completions", {
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    const faults = sseEvents(streamed.body).flatMap((event) =>
      chats.faults("ChatCompletionChunk", event),
    );
    expect(faults).toEqual([]);
  });

  it("of completions, whole and streamed", async () => {
    const { post } = await serve(new ScriptedEngine(says("h€llo")));
    const body = { prompt: ["a", "b"], logprobs: 2 };
    const whole = await post("/v1/completions", body);
    expect(completions.faults("Completion", whole.json())).toEqual([]);
    const streamed = await post("/v1/completions", { ...body, stream: true });
    for (const event of sseEvents(streamed.body)) {
      // Only the last event of a choice says why it ended.
      for (const choice of event.choices) choice.finish_reason ??= "stop";
      expect(completions.faults("Completion", event)).toEqual([]);
    }
  });

  it("of messages, whole and streamed, but for what is null anyway", async () => {
    const { post } = await serve(new ScriptedEngine(says("h€llo")));
    const body = { model: "tiny", max_tokens: 9, messages };
    const whole = (await post("/v1/messages", body)).json();
    const known = (fault: string): boolean => !fault.endsWith(": missing");
    expect(anthropic.faults("Message", whole).filter(known)).toEqual([]);
    const streamed = await post("/v1/messages", { ...body, stream: true });
    const events: Json[] = [...streamed.body.matchAll(/^data: (.*)$/gm)].map(
      ([, json]) => JSON.parse(json ?? ""),
    );
    expect(events.map(({ type }) => type)).toContain("message_stop");
    const faults = events
      // Of the older API: its types have left it out.
      .filter(({ type }) => type !== "ping")
      .flatMap((event) => anthropic.faults("RawMessageStreamEvent", event));
    expect(faults.filter(known)).toEqual([]);
  });
});
