/** A real model that never stops thinking by itself is made to, in a running engine. */
import { existsSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import { EngineClient } from "../../src/engine/engine-client.js";
import { createApp, type App } from "../../src/server/app.js";
import { loadChatTemplate } from "../../src/text/chat-template.js";
import { loadTokenizer, type Tokenizer } from "../../src/text/tokenizer.js";
import { sseEvents, type Json } from "../server/support.js";

// A worker can't run TypeScript: it is the compiled one. `npm test` builds it first.
const worker = path.resolve("dist/src/engine/engine-thread.js");
const model = path.resolve("../shared/models/stories260k");
const ready = existsSync(worker) && existsSync(model);
const TEMPLATE =
  "{{ bos_token }}{% for message in messages %}{{ message.content }} {% endfor %}{# </think> #}";

describe.skipIf(!ready)(
  "thinking_token_budget (needs dist/ and ../shared/models/stories260k)",
  () => {
    let engine: EngineClient;
    let tokenizer: Tokenizer;
    let app: App;

    beforeAll(async () => {
      const config = { ...ENGINE_DEFAULTS, model, threads: 1, maxNumSeqs: 8 };
      engine = await EngineClient.start(config, {
        workerUrl: pathToFileURL(worker),
      });
      tokenizer = await loadTokenizer(model);
      app = createApp({
        engine,
        tokenizer,
        chatTemplate: await loadChatTemplate(model, TEMPLATE),
        servedModelNames: ["stories"],
        modelPath: model,
        logLevel: "silent",
      });
    });
    afterAll(async () => {
      await app.close();
      await engine.close();
    });

    const ask = (fields: object) =>
      app.inject({
        method: "POST",
        url: "/v1/chat/completions",
        payload: {
          messages: [{ role: "user", content: "Once upon a time" }],
          max_tokens: 60,
          return_token_ids: true,
          seed: 1,
          ...fields,
        },
      });

    /** The tokens before the end marker, which must come in full after them. */
    function thought(ids: readonly number[]): number {
      for (let n = 0; n < ids.length; n++) {
        const rest = tokenizer.decode(ids.slice(n));
        if (rest.startsWith("</think>")) return n;
      }
      throw new Error("the reasoning has no end");
    }

    it.each([0, 1, 12])(
      "ends the reasoning after %i tokens",
      async (budget) => {
        const fields = { thinking_token_budget: budget, n: 3, temperature: 1 };
        const response = await ask(fields);
        const { choices } = response.json();
        expect(choices).toHaveLength(3);
        for (const { token_ids, message } of choices) {
          expect(thought(token_ids)).toBe(budget);
          const reasoning = tokenizer.decode(token_ids.slice(0, budget)).trim();
          expect(message.reasoning ?? "").toBe(reasoning);
          expect(message.content).not.toBe("");
        }
        // The same request gives the same tokens, streamed too.
        const stream = await ask({ ...fields, stream: true });
        const ids: number[][] = [[], [], []];
        for (const { choices: list } of sseEvents(stream.body))
          for (const { index, token_ids } of list as Json[])
            ids[index]?.push(...(token_ids ?? []));
        expect(ids).toEqual(choices.map((choice: Json) => choice.token_ids));
      },
    );

    it("leaves the rest of the answer alone, and every block free", async () => {
      const response = await ask({ thinking_token_budget: 5, max_tokens: 40 });
      const { choices, usage } = response.json();
      expect(choices[0].finish_reason).toBe("length");
      expect(usage.completion_tokens).toBe(40);
      await expect
        .poll(() => engine.stats.numFreeBlocks)
        .toBe(engine.info.numBlocks);
    });
  },
);
