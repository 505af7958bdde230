/**
 * Calls that must come, from models that know nothing of tools: every call that ends by itself is JSON that its tool's
 * schema takes. The functions are those of the Berkeley function-calling leaderboard (simple, Python).
 */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import { EngineClient } from "../../src/engine/engine-client.js";
import { createApp, type App } from "../../src/server/app.js";
import { loadChatTemplate } from "../../src/text/chat-template.js";
import { loadTokenizer, type Tokenizer } from "../../src/text/tokenizer.js";
import { sseEvents, type Json } from "../server/support.js";

// Workers can't run TypeScript: they are the compiled ones. `npm test` builds them first.
const dist = path.resolve("dist/src");
const worker = path.join(dist, "engine/engine-thread.js");
const grammarWorker = path.join(dist, "grammar/grammar-worker.js");
const model = path.resolve("../shared/models/tiny-llama3");
const functions = path.resolve("../shared/prompts/bfcl_simple_python.jsonl");
const ready = [worker, grammarWorker, model, functions].every(existsSync);
const long = process.env.OCTAVO_LONG !== undefined;

/** Names only: the schemas of these functions do not fit into the small contexts of the test models. */
const TEMPLATE =
  "{{ bos_token }}{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}" +
  '<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>' +
  "{% if not loop.last %}\n{% endif %}{% endfor %}{{ eos_token }}{% endfor %}{% if think %}<think>\n{% endif %}{# </think> #}";

interface Case {
  id: string;
  question: { role: string; content: string }[][];
  function: { name: string; description: string; parameters: Json }[];
}

/** Python's types, as the data set has them, and JSON's; any value is one without a type. */
const TYPES: Record<string, string | undefined> = {
  dict: "object",
  float: "number",
  tuple: "array",
  any: undefined,
};

function jsonSchema(schema: Json): Json {
  if (Array.isArray(schema)) return schema.map(jsonSchema);
  if (typeof schema !== "object" || schema === null) return schema;
  return Object.fromEntries(
    Object.entries(schema as object).flatMap(([key, value]) => {
      if (key !== "type" || typeof value !== "string")
        return [[key, jsonSchema(value)]];
      const type = Object.hasOwn(TYPES, value) ? TYPES[value] : value;
      return type === undefined ? [] : [[key, type]];
    }),
  );
}

function readCases(): Case[] {
  return readFileSync(functions, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Case);
}

describe.skipIf(!ready)(
  "tool_choice (needs dist/ and ../shared: tiny-llama3, BFCL)",
  () => {
    let engine: EngineClient;
    let tokenizer: Tokenizer;
    let app: App;
    /** Strings of a model that picks tokens blindly seldom end: quotes and brackets are made likelier. */
    let bias: Record<string, number>;

    beforeAll(async () => {
      const config = { ...ENGINE_DEFAULTS, model, threads: 1, maxNumSeqs: 16 };
      engine = await EngineClient.start(config, {
        workerUrl: pathToFileURL(worker),
      });
      tokenizer = await loadTokenizer(model);
      bias = Object.fromEntries(
        Array.from({ length: tokenizer.vocabSize }, (_, id) => id)
          .filter((id) => /^ ?["\]}.]+$/.test(tokenizer.decode([id])))
          .map((id) => [String(id), 4]),
      );
      app = createApp({
        engine,
        tokenizer,
        chatTemplate: await loadChatTemplate(model, TEMPLATE),
        servedModelNames: ["tiny"],
        modelPath: model,
        logLevel: "silent",
        grammarWorkerUrl: pathToFileURL(grammarWorker),
      });
    });
    afterAll(async () => {
      await app.close();
      await engine.close();
    });

    const post = (fields: object) =>
      app.inject({
        method: "POST",
        url: "/v1/chat/completions",
        payload: {
          messages: [{ role: "user", content: "Go." }],
          temperature: 1,
          max_tokens: 300,
          logit_bias: bias,
          ...fields,
        },
      });
    const toolsOf = (one: Case, i = 0) =>
      one.function.map(({ name, description, parameters }) => ({
        type: "function",
        function: {
          name: i === 0 ? name : `${name}_${i}`,
          description,
          parameters: jsonSchema(parameters),
        },
      }));

    it("required: every call that ends by itself validates", async () => {
      const ajv = new Ajv2020({ strict: false });
      const all = readCases();
      const cases = long ? all : all.filter((_, i) => i % 50 === 0);
      const counts = { ended: 0, cut: 0, refused: 0 };
      const run = async (one: Case, seed: number): Promise<void> => {
        const tools = toolsOf(one);
        const response = await post({ tools, tool_choice: "required", seed });
        if (response.statusCode === 400) {
          // A keyword that is none of JSON Schema's is not ignored.
          expect(response.json().error.param).toMatch(/\.optional$/);
          counts.refused++;
          return;
        }
        expect(response.statusCode, `${one.id}: ${response.body}`).toBe(200);
        const [choice] = response.json().choices;
        if (choice.finish_reason === "length") {
          counts.cut++;
          return;
        }
        counts.ended++;
        expect(choice.finish_reason).toBe("tool_calls");
        expect(choice.message.content).toBeNull();
        for (const call of choice.message.tool_calls) {
          expect(call.function.name).toBe(one.function[0]?.name);
          const validate = ajv.compile(tools[0]?.function.parameters ?? {});
          const value: unknown = JSON.parse(call.function.arguments);
          expect(
            validate(value),
            `${one.id}: ${call.function.arguments} ${ajv.errorsText(validate.errors)}`,
          ).toBe(true);
        }
      };
      for (let i = 0; i < cases.length; i += 8)
        await Promise.all(
          cases.slice(i, i + 8).map((one, j) => run(one, i + j)),
        );
      const { ended, cut, refused } = counts;
      console.log(
        `BFCL: ${ended} ended, ${cut} cut by length, ${refused} refused`,
      );
      expect(refused).toBeLessThanOrEqual(4);
      expect(counts.ended).toBeGreaterThan(cases.length / 4);
      await expect
        .poll(() => engine.stats.numFreeBlocks)
        .toBe(engine.info.numBlocks);
    }, 600_000);

    const weather = (name: string) => ({
      type: "function",
      function: {
        name,
        parameters: {
          type: "object",
          properties: { on: { type: "boolean" } },
          required: ["on"],
          additionalProperties: false,
        },
      },
    });

    it("a named tool is called once, whatever else there is; n choices, streamed alike", async () => {
      const fields = {
        tools: [weather("one"), weather("two")],
        tool_choice: { type: "function", function: { name: "two" } },
        n: 4,
        seed: 3,
      };
      const { choices } = (await post(fields)).json();
      for (const { message, finish_reason } of choices) {
        expect(finish_reason).toBe("tool_calls");
        expect(message.tool_calls).toHaveLength(1);
        expect(message.tool_calls[0].function.name).toBe("two");
        const value = JSON.parse(message.tool_calls[0].function.arguments);
        expect(Object.keys(value as object)).toEqual(["on"]);
      }
      const stream = await post({ ...fields, stream: true });
      const texts = ["", "", "", ""];
      for (const { choices: list } of sseEvents(stream.body))
        for (const { index, delta } of list as Json[])
          texts[index] += delta.tool_calls?.[0].function.arguments ?? "";
      expect(texts).toEqual(
        choices.map((c: Json) => c.message.tool_calls[0].function.arguments),
      );
    });

    it("calls and structured answers come after reasoning, which is bounded", async () => {
      const fields = {
        thinking_token_budget: 6,
        chat_template_kwargs: { think: true },
        n: 4,
        seed: 2,
      };
      const schema = { type: "object", properties: { a: { enum: [1] } } };
      const required = await post({
        ...fields,
        tools: [weather("one")],
        tool_choice: "required",
        parallel_tool_calls: false,
      });
      for (const { message } of required.json().choices) {
        expect(message.reasoning).not.toBe("");
        expect(message.tool_calls).toHaveLength(1);
        JSON.parse(message.tool_calls[0].function.arguments as string);
      }
      const json_schema = { name: "x", schema };
      const response_format = { type: "json_schema", json_schema };
      const structured = await post({ ...fields, response_format });
      for (const { message } of structured.json().choices) {
        expect(message.reasoning).not.toBe("");
        expect([{}, { a: 1 }]).toContainEqual(
          JSON.parse(message.content as string),
        );
      }
    });

    it("several calls come only where they are welcome", async () => {
      const fields = {
        tools: [weather("one")],
        tool_choice: "required",
        n: 8,
        seed: 1,
      };
      const counts = async (parallel: boolean): Promise<number[]> => {
        const response = await post({
          ...fields,
          parallel_tool_calls: parallel,
        });
        return response
          .json()
          .choices.map((choice: Json) => choice.message.tool_calls.length);
      };
      expect(Math.max(...(await counts(true)))).toBeGreaterThan(1);
      expect(await counts(false)).toEqual(Array(8).fill(1));
    });

    it("any of /v1/messages, and a schema beside tools that may be called", async () => {
      const response = await app.inject({
        method: "POST",
        url: "/v1/messages",
        payload: {
          model: "tiny",
          max_tokens: 300,
          messages: [{ role: "user", content: "Go." }],
          tools: [
            { name: "one", input_schema: weather("one").function.parameters },
          ],
          tool_choice: { type: "any", disable_parallel_tool_use: true },
        },
      });
      expect(response.json()).toMatchObject({
        stop_reason: "tool_use",
        content: [{ type: "tool_use", name: "one" }],
      });
      const json_schema = {
        name: "x",
        schema: {
          type: "object",
          properties: { a: { enum: [1, 2] } },
          required: ["a"],
        },
      };
      const { choices } = (
        await post({
          tools: [weather("one")],
          response_format: { type: "json_schema", json_schema },
          n: 8,
          seed: 5,
        })
      ).json();
      for (const { message } of choices) {
        if (message.tool_calls !== undefined)
          expect(message.content).toBeNull();
        else expect([1, 2]).toContain(JSON.parse(message.content as string).a);
      }
    });

    it("400 names the place of a schema that cannot be enforced", async () => {
      const tool = weather("one");
      const parameters = {
        type: "object",
        properties: { a: { type: "array", uniqueItems: true } },
      };
      const tools = [tool, { ...tool, function: { name: "two", parameters } }];
      const response = await post({ tools, tool_choice: "required" });
      expect(response.statusCode).toBe(400);
      expect(response.json().error.param).toBe(
        "tools[1].function.parameters.properties.a.uniqueItems",
      );
    });
  },
);
