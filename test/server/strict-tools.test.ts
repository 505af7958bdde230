/** tool_choice auto with strict tools: a model that picks tokens blindly, real grammar workers. */
import { pathToFileURL } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import type { AppOptions } from "../../src/server/app.js";
import { grammarWorker, isBuilt } from "./fuzz/support.js";
import { pagedEngine } from "./known-engine.js";
import { serve, TOOL_TEMPLATE, type Json } from "./support.js";

const PARAMETERS = {
  type: "object",
  properties: {
    city: { enum: ["Paris", "Rome"] },
    days: { type: "integer", minimum: 0, maximum: 9 },
  },
  required: ["city", "days"],
  additionalProperties: false,
};
const validate = new Ajv2020().compile(PARAMETERS);
const N = 48;

async function start(template: string, options: Partial<AppOptions> = {}) {
  const engine = pagedEngine({
    maxModelLen: 1024,
    numBlocks: 512,
    maxNumSeqs: 16,
  });
  const { maxNumSamples } = engine.runner.limits;
  return serve(engine, {
    template,
    info: { maxModelLen: 1024, maxNumSamples },
    grammarWorkerUrl: pathToFileURL(grammarWorker),
    ...options,
  });
}

const body = (strict: boolean, fields: object = {}) => ({
  messages: [{ role: "user", content: "a" }],
  tools: [
    {
      type: "function",
      function: { name: "weather", parameters: PARAMETERS, strict },
    },
  ],
  n: N,
  max_tokens: 600,
  seed: 5,
  ...fields,
});

/** Of the choices: those without calls, and whether the arguments of each call are valid. */
function read(json: Json): { free: number; valid: boolean[] } {
  const valid: boolean[] = [];
  let free = 0;
  for (const { message, finish_reason } of json.choices) {
    const calls: Json[] = message.tool_calls ?? [];
    if (calls.length === 0) free++;
    else expect(finish_reason).toBe("tool_calls");
    for (const call of calls) {
      let value: unknown = null;
      try {
        value = JSON.parse(call.function.arguments);
      } catch {
        // Not valid.
      }
      valid.push(validate(value));
    }
  }
  return { free, valid };
}

describe.skipIf(!isBuilt)(
  "strict tools with tool_choice auto (needs dist/)",
  () => {
    it("hold a call to its schema from its first token on, and leave the choice free", async () => {
      const { post } = await start(TOOL_TEMPLATE);
      const answer = await post("/v1/chat/completions", body(true));
      expect(answer.statusCode, answer.body).toBe(200);
      const { free, valid } = read(answer.json());
      expect(free).toBeGreaterThan(N / 8);
      expect(valid.length).toBeGreaterThan(N / 8);
      expect(valid).not.toContain(false);
      // Blind tokens make no call by themselves.
      const loose = await post("/v1/chat/completions", body(false));
      expect(read(loose.json()).valid).not.toContain(true);
    });

    it.each(["llama3_json", "pythonic"])(
      "hold a call without a marker, at the beginning of an answer: %s",
      async (toolCallParser) => {
        const { post } = await start(TOOL_TEMPLATE, { toolCallParser });
        const answer = await post("/v1/chat/completions", body(true));
        expect(answer.statusCode, answer.body).toBe(200);
        const { free, valid } = read(answer.json());
        expect(free).toBeGreaterThan(N / 2);
        expect(valid).not.toContain(false);
      },
    );

    it("are refused where a call is not JSON and a token announces it, and beside a bound on reasoning", async () => {
      const { post } = await start(TOOL_TEMPLATE, {
        toolCallParser: "qwen3_coder",
      });
      const refused = await post("/v1/chat/completions", body(true));
      expect(refused.statusCode).toBe(400);
      expect(refused.json().error.param).toBe("tools[0].function.strict");
      const forced = body(true, { tool_choice: "required", max_tokens: 90 });
      expect((await post("/v1/chat/completions", forced)).statusCode).toBe(200);
      const thinking = await start(`${TOOL_TEMPLATE}{# <think></think> #}`);
      const bounded = await thinking.post(
        "/v1/chat/completions",
        body(true, { thinking_token_budget: 3 }),
      );
      expect(bounded.json().error.param).toBe("thinking_token_budget");
    });
  },
);
