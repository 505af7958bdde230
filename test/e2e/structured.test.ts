/** Constrained output as a client sees it: real model, real workers, real sockets. */
import { Ajv2020 } from "ajv/dist/2020.js";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { hasShared, startServer, STORIES } from "./server-process.js";
import type { ServerProcess } from "./server-process.js";

const PERSON = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 12 },
    age: { type: "integer", minimum: 0, maximum: 130 },
    tags: { type: "array", items: { enum: ["a", "b"] }, maxItems: 3 },
  },
  required: ["name", "age", "tags"],
  additionalProperties: false,
};
const validate = new Ajv2020({ strict: false }).compile(PERSON);

interface Body {
  choices: { text: string; finish_reason: string }[];
  error?: { message: string; param: string; type: string };
}

describe.skipIf(!hasShared)(
  "structured output (needs ../shared/models/stories260k)",
  () => {
    let server: ServerProcess;
    let client: OpenAI;

    beforeAll(async () => {
      server = await startServer([
        STORIES,
        "--chat-template",
        "{% for m in messages %}{{ m.content }}{% endfor %}",
      ]);
      client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none" });
    });
    afterAll(async () => {
      await server.stop("SIGKILL");
    });

    async function complete(fields: object): Promise<[number, Body]> {
      const response = await fetch(`${server.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ prompt: "Once", max_tokens: 120, ...fields }),
      });
      return [response.status, (await response.json()) as Body];
    }

    async function text(fields: object): Promise<string> {
      const [status, body] = await complete(fields);
      expect(status, JSON.stringify(body)).toBe(200);
      expect(body.choices[0]?.finish_reason).toBe("stop");
      return body.choices[0]?.text ?? "";
    }

    const chat = {
      model: "stories260k",
      messages: [{ role: "user" as const, content: "Tell me of Lily." }],
      response_format: {
        type: "json_schema" as const,
        json_schema: { name: "person", strict: true, schema: PERSON },
      },
      max_tokens: 120,
      seed: 3,
    };

    it("is valid in a chat of the openai client, whole and streamed, for each of n", async () => {
      const whole = await client.chat.completions.create({ ...chat, n: 3 });
      expect(whole.choices).toHaveLength(3);
      for (const { message, finish_reason } of whole.choices) {
        expect(finish_reason).toBe("stop");
        const value: unknown = JSON.parse(message.content ?? "");
        expect(validate(value), message.content ?? "").toBe(true);
      }
      const stream = await client.chat.completions.create({
        ...chat,
        stream: true,
      });
      let streamed = "";
      for await (const chunk of stream)
        streamed += chunk.choices[0]?.delta.content ?? "";
      expect(streamed).toBe(whole.choices[0]?.message.content);
    });

    it("is parsed by the openai client into what a zod schema describes", async () => {
      const Person = z.object({
        name: z.enum(["Lily", "Tom", "Ann"]),
        age: z.number().int().min(0).max(130),
        tags: z.array(z.enum(["a", "b"])).max(3),
        friend: z.object({ kind: z.literal("dog") }).nullable(),
      });
      const { messages, model } = chat;
      const parsed = await client.chat.completions.parse({
        ...{ model, messages, max_tokens: 120, seed: 4 },
        response_format: zodResponseFormat(Person, "person"),
      });
      const [choice] = parsed.choices;
      expect(Person.parse(choice?.message.parsed)).toEqual(
        choice?.message.parsed,
      );
      const response = await client.responses.parse({
        ...{ model, input: "Tell me of Tom.", max_output_tokens: 120 },
        text: { format: zodTextFormat(Person, "person") },
      });
      expect(Person.parse(response.output_parsed)).toEqual(
        response.output_parsed,
      );
    });

    it.each<[string, object, RegExp]>([
      ["json_object", { response_format: { type: "json_object" } }, /^\{.*\}$/],
      [
        "choice",
        { guided_choice: ["red", "reddish", "blue"] },
        /^(red|reddish|blue)$/,
      ],
      ["regex", { guided_regex: "[A-Z][a-z]{2,4}!" }, /^[A-Z][a-z]{2,4}!$/],
      [
        "a grammar",
        {
          structured_outputs: {
            grammar: 'root ::= "<" word ">"\nword ::= [a-z] [a-z]? [a-z]?',
          },
        },
        /^<[a-z]{1,3}>$/,
      ],
      [
        "a schema as text",
        { guided_json: '{"const": [1, "x"]}' },
        /^\[1, "x"\]$/,
      ],
    ])("follows %s", async (name, fields, pattern) => {
      // A free object of this small model may not end in time.
      const more = name === "json_object" ? { max_tokens: 400, seed: 5 } : {};
      const [status, { choices }] = await complete({ ...fields, ...more });
      expect(status).toBe(200);
      const [first] = choices;
      if (first?.finish_reason === "length") expect(first.text[0]).toBe("{");
      else expect(first?.text).toMatch(pattern);
    });

    it("ends with its grammar under ignore_eos, and no sooner than it must", async () => {
      const digits = { guided_regex: "[0-9]{2,6}", ignore_eos: true };
      expect(await text(digits)).toMatch(/^[0-9]{6}$/);
    });

    it("is the same alone and in company", async () => {
      const ask = (seed: number) =>
        text({ guided_json: PERSON, seed, temperature: 1 });
      const alone: string[] = [];
      for (let seed = 0; seed < 6; seed++) alone.push(await ask(seed));
      const free = Array.from({ length: 6 }, (_, seed) =>
        complete({ seed, max_tokens: 60 }),
      );
      const together = await Promise.all(
        Array.from({ length: 6 }, (_, seed) => ask(seed)),
      );
      await Promise.all(free);
      expect(together).toEqual(alone);
    });

    it("frees the workers of clients that have gone", async () => {
      const endless = (i: number) => ({
        prompt: "Once",
        stream: true,
        max_tokens: 500,
        ignore_eos: true,
        guided_regex: `x{${i},}`,
      });
      for (let i = 1; i <= 6; i++) {
        const abort = new AbortController();
        const response = await fetch(`${server.url}/v1/completions`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(endless(i)),
          signal: abort.signal,
        });
        const reader = response.body?.getReader();
        await reader?.read();
        abort.abort();
        await reader?.read().catch(() => undefined);
      }
      // More grammars than workers: each needs one that nobody holds.
      for (let i = 1; i <= 6; i++)
        expect(await text({ guided_regex: `y{${i}}` })).toBe("y".repeat(i));
    });

    it.each<[object, string | null, RegExp]>([
      [
        {
          response_format: {
            type: "json_schema",
            json_schema: {
              name: "x",
              schema: { properties: { a: { multipleOf: 2 } } },
            },
          },
        },
        "response_format.json_schema.schema.properties.a.multipleOf",
        /not enforced/,
      ],
      [{ guided_regex: "(a" }, "guided_regex", /not closed/],
      [{ guided_regex: "a(?=b)" }, "guided_regex", /lookahead/],
      [
        { structured_outputs: { grammar: "root ::= other" } },
        "structured_outputs.grammar",
        /"other" is not defined/,
      ],
      [
        { guided_choice: ["red"], allowed_token_ids: [5] },
        null,
        /cannot go on.*allowed_token_ids/,
      ],
    ])("is refused with 400: %j", async (fields, param, message) => {
      const [status, { error }] = await complete(fields);
      expect(status).toBe(400);
      expect(error).toMatchObject({ param, type: "invalid_request_error" });
      expect(error?.message).toMatch(message);
    });
  },
);
