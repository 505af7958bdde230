/** What /v1/responses takes and tells, against the openai package's own types. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { FinishReason } from "../../../src/core/request.js";
import type { HostedStep } from "../../../src/engine/engine-host.js";
import { ResponsesSchema } from "../../../src/server/responses/schema.js";
import { ChatSchema, CompletionSchema } from "../../../src/server/schemas.js";
import {
  bytes,
  END,
  says,
  ScriptedEngine,
  serve,
  type Json,
  type Script,
} from "../support.js";
import { checkEvents } from "./check-events.js";
import { OpenAITypes } from "./openai-types.js";
import { base, eventsOf, PARIS, start, thinks, tools, URL } from "./support.js";

const types = new OpenAITypes("resources/responses/responses.d.ts");

const calls = [258, ...bytes(`\n${PARIS}\n`), 259];
const twice: Script = () => [...calls, ...bytes("\n"), ...calls, END];

/** Ends what is aborted for another reason. */
class FailingEngine extends ScriptedEngine {
  constructor(private readonly finish: FinishReason) {
    super(says("x"));
    this.running = false;
  }

  override step(): HostedStep | null {
    const step = super.step();
    if (step === null) return null;
    const { finish } = this;
    return { ...step, finished: step.finished.map((f) => ({ ...f, finish })) };
  }
}

describe("every event and object has what the package's types ask for", () => {
  const logprobs = {
    top_logprobs: 2,
    include: ["message.output_text.logprobs"],
  };
  const everything = {
    tools,
    tool_choice: "auto",
    instructions: "Be brief.",
    metadata: { a: "b" },
    reasoning: { effort: "low", summary: "auto" },
    user: "me",
    service_tier: "auto",
    ...logprobs,
  };
  const answers: [string, Script, object, string][] = [
    ["thoughts, text and a call", thinks, everything, "completed"],
    ["two calls", twice, { tools }, "completed"],
    ["nothing", says(""), {}, "completed"],
    ["half a text", says("abcd"), { max_output_tokens: 2 }, "incomplete"],
    ["half a call", thinks, { tools, max_output_tokens: 60 }, "incomplete"],
  ];
  it.each(answers)("of %s", async (_, script, fields, status) => {
    const { app, post } = await start(script);
    const body = { ...base, ...fields };
    const events = eventsOf((await post(URL, { ...body, stream: true })).body);
    expect(checkEvents(events).status).toBe(status);
    expect(
      events.flatMap((event) => types.faults("ResponseStreamEvent", event)),
    ).toEqual([]);
    const whole = (await post(URL, body)).json();
    expect(types.faults("Response", whole)).toEqual([]);
    const kept = (await app.inject(`${URL}/${whole.id}`)).json();
    expect(kept).toEqual(whole);
  });

  it.each([
    [FinishReason.stuck, "invalid_prompt"],
    [FinishReason.slow, "invalid_prompt"],
    [FinishReason.lost, "server_error"],
    [FinishReason.abort, "server_error"],
  ])("of a failure (%i): %s", async (finish, code) => {
    const engine = new FailingEngine(finish);
    const { client, post } = await serve(engine);
    const pending = post(URL, { ...base, stream: true });
    await expect.poll(() => engine.requests.length).toBe(1);
    engine.abort(engine.requests[0]?.handle ?? -1, -1, "abort");
    void client.call("checkIntegrity");
    const events = eventsOf((await pending).body);
    expect(checkEvents(events).error.code).toBe(code);
    expect(
      events.flatMap((event) => types.faults("ResponseStreamEvent", event)),
    ).toEqual([]);
  });

  it("of a list of items", async () => {
    const { app, create } = await start(says("x"));
    const { id } = await create({
      tools,
      input: [
        { role: "user", content: "a" },
        { role: "assistant", content: "b" },
        { type: "reasoning", summary: [{ type: "summary_text", text: "c" }] },
        { type: "function_call", call_id: "1", name: "f", arguments: "{}" },
        { type: "function_call_output", call_id: "1", output: "d" },
      ],
    });
    const { data } = (await app.inject(`${URL}/${id}/input_items`)).json();
    expect(data).toHaveLength(5);
    expect(
      data.flatMap((item: Json) => types.faults("ResponseItem", item)),
    ).toEqual([]);
  });
});

describe("no field of a request is left out of account", () => {
  const docs = readFileSync("docs/responses.md", "utf8");
  const known = new Set(Object.keys(ResponsesSchema.properties));
  const fields = [
    ...types.fieldsOf("ResponseCreateParamsBase"),
    ...types.fieldsOf("ResponsesClientEvent"),
  ].filter((field) => field !== "type");

  it.each([...new Set(fields)])("of the package's: %s", async (field) => {
    expect(docs).toContain(`\`${field}\``);
    if (known.has(field)) return;
    const { post } = await start(says("x"));
    const response = await post(URL, { ...base, [field]: { id: "x" } });
    expect(response.json().error?.param).toBe(field);
  });

  /** By what would change an answer. */
  const elsewhere: Readonly<Record<string, unknown>> = {
    messages: [{ role: "user", content: "a" }],
    prompt: "a",
    n: 2,
    best_of: 2,
    echo: true,
    max_tokens: 1,
    max_completion_tokens: 1,
    logprobs: true,
    prompt_logprobs: 1,
    truncate_prompt_tokens: 1,
    add_special_tokens: true,
    return_token_ids: true,
    response_format: { type: "json_object" },
    structured_outputs: { regex: "a" },
    guided_json: {},
    guided_regex: "a",
    guided_choice: ["a"],
    guided_grammar: "a",
    guided_json_object: true,
    guided_whitespace_pattern: " ",
    include_reasoning: false,
    documents: [{ text: "a" }],
    add_generation_prompt: false,
    continue_final_message: true,
    chat_template: "a",
    reasoning_effort: "low",
  };
  const others = {
    ...CompletionSchema.properties,
    ...ChatSchema.properties,
  };
  it.each(Object.keys(others).filter((field) => !known.has(field)))(
    "of the other routes': %s",
    async (field) => {
      expect(elsewhere).toHaveProperty(field);
      const { post } = await start(says("x"));
      const body = { ...base, [field]: elsewhere[field] };
      const response = await post(URL, body);
      expect(response.statusCode, response.body).toBe(400);
      expect(response.json().error.param).toBe(field);
      const empty = await post(URL, { ...base, [field]: null });
      expect(empty.statusCode).toBe(200);
    },
  );

  it("of those that no chat route takes", async () => {
    const { post } = await start(says("x"));
    for (const field of ["use_beam_search", "functions", "suffix"]) {
      const response = await post(URL, { ...base, [field]: ["x"] });
      expect(response.json().error?.param).toBe(field);
    }
  });
});
