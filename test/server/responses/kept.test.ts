import { describe, expect, it } from "vitest";
import { bytes, says, type Json } from "../support.js";
import { checkEvents } from "./check-events.js";
import {
  base,
  eventsOf,
  PARIS,
  start,
  text,
  thinks,
  tools,
  URL,
} from "./support.js";

describe("responses that are kept", () => {
  it("are the beginning of what follows them", async () => {
    const { create, prompt } = await start(thinks);
    const first = await create({ instructions: "Be brief.", tools });
    const { call_id } = first.output[2];
    const second = await create({
      tools,
      previous_response_id: first.id,
      input: [{ type: "function_call_output", call_id, output: "21" }],
    });
    expect(second.previous_response_id).toBe(first.id);
    // Instructions are of one response; reasoning goes where the template puts it: here, nowhere.
    expect(prompt(1)).toContain(
      `<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\nLet me see.#258\n${PARIS}\n#259<|im_end|>\n<|im_start|>tool\n21<|im_end|>`,
    );
    expect(prompt(1)).not.toContain("Be brief.");
    await create({ previous_response_id: second.id, input: "So?" });
    expect(prompt(2)).toContain("<|im_start|>tool\n21<|im_end|>");
    expect(prompt(2).match(/Weather\?/g)).toHaveLength(1);
  });

  it("can be got, listed and deleted, but not with store false", async () => {
    const { app, create } = await start(says("Hi."));
    const input = ["a", "b", "c"].map((content) => ({ role: "user", content }));
    const response = await create({ input });
    const url = `${URL}/${response.id}`;
    const get = async (path: string) => (await app.inject(path)).json();
    expect(await get(url)).toEqual(response);
    const texts = (page: Json) =>
      page.data.map((item: Json) => item.content[0].text);
    const all = await get(`${url}/input_items`);
    expect(all).toMatchObject({ object: "list", has_more: false });
    expect(texts(all)).toEqual(["c", "b", "a"]);
    const page = await get(`${url}/input_items?order=asc&limit=2`);
    expect(page.has_more).toBe(true);
    expect(page.last_id).toBe(page.data[1].id);
    const rest = await get(
      `${url}/input_items?order=asc&after=${page.last_id}`,
    );
    expect([...texts(page), ...texts(rest)]).toEqual(["a", "b", "c"]);
    for (const query of ["limit=0", "limit=x", "order=x", "after=x"]) {
      const bad = await app.inject(`${url}/input_items?${query}`);
      expect(bad.statusCode).toBe(400);
      expect(bad.json().error.param).toBe(query.split("=")[0]);
    }
    const deleted = await app.inject({ method: "DELETE", url });
    expect(deleted.json()).toEqual({
      id: response.id,
      object: "response",
      deleted: true,
    });
    expect((await app.inject(url)).statusCode).toBe(404);
    const unkept = await create({ store: false });
    expect((await app.inject(`${URL}/${unkept.id}`)).statusCode).toBe(404);
  });

  it("are found item by item", async () => {
    const { create, prompt } = await start(says("Hi."));
    const first = await create({});
    const reference = { type: "item_reference", id: first.output[0].id };
    await create({ input: [reference, { role: "user", content: "And?" }] });
    expect(prompt(1)).toContain("<|im_start|>assistant\nHi.<|im_end|>");
  });

  it("are seen by the key alone that made them", async () => {
    const { app } = await start(says("Hi."), { apiKeys: ["one", "two"] });
    const as = (key: string) => ({
      headers: { authorization: `Bearer ${key}` },
    });
    const create = (key: string, body: object) =>
      app.inject({ method: "POST", url: URL, payload: body, ...as(key) });
    const { id, output } = (await create("one", base)).json();
    expect((await app.inject({ url: `${URL}/${id}` })).statusCode).toBe(401);
    for (const [key, status] of [
      ["one", 200],
      ["two", 404],
    ] as const) {
      const got = await app.inject({ url: `${URL}/${id}`, ...as(key) });
      expect(got.statusCode).toBe(status);
    }
    const url = `${URL}/${id}`;
    const stranger = { method: "DELETE" as const, url, ...as("two") };
    expect((await app.inject(stranger)).statusCode).toBe(404);
    const theft = { ...base, previous_response_id: id };
    expect((await create("two", theft)).json().error.code).toBe(
      "previous_response_not_found",
    );
    const reference = { type: "item_reference", id: output[0].id };
    expect((await create("two", { input: [reference] })).statusCode).toBe(400);
    expect((await create("one", theft)).statusCode).toBe(200);
  });

  // Half a marker is held back, and so are pieces of text with an interval: they come with the end.
  const intervals = [1, 1000];
  it.each(intervals)("can be cancelled (interval %i)", async (interval) => {
    const said = "aha <tool_c";
    const { app, client, engine } = await start(() => bytes(said), {
      info: { maxModelLen: 10_000_000 },
      streamInterval: interval,
    });
    const url = await app.listen({ port: 0, host: "127.0.0.1" });
    const answer = await fetch(url + URL, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...base, tools, stream: true }),
    });
    const reader = answer.body?.getReader();
    let body = Buffer.from((await reader?.read())?.value ?? []).toString();
    const id = /"id":"(resp_\w+)"/.exec(body)?.[1] ?? "";
    const next = { ...base, previous_response_id: id };
    const early = await app.inject({
      method: "POST",
      url: URL,
      payload: next,
    });
    expect(early.json().error.message).toMatch(/still in progress/);
    const cancel = () =>
      app.inject({ method: "POST", url: `${URL}/${id}/cancel` });
    const cancelled = await cancel();
    expect(cancelled.json()).toMatchObject({ id, status: "cancelled" });
    for (;;) {
      const { value, done } = (await reader?.read()) ?? { done: true };
      if (done) break;
      body += Buffer.from(value ?? []).toString();
    }
    const response = checkEvents(eventsOf(body));
    expect(response.status).toBe("cancelled");
    const { output_tokens } = response.usage;
    expect(text(response)).toBe(
      said.repeat(output_tokens).slice(0, output_tokens),
    );
    await expect.poll(() => client.numPending).toBe(0);
    expect(engine.aborts).toEqual([{ choice: -1, reason: "abort" }]);
    const again = await cancel();
    expect(again.statusCode).toBe(200);
    expect(again.json()).toEqual(response);
  });

  it("cannot be cancelled when they have ended", async () => {
    const { app, create } = await start(says("Hi."));
    const { id } = await create({});
    const late = await app.inject({
      method: "POST",
      url: `${URL}/${id}/cancel`,
    });
    expect(late.statusCode).toBe(400);
    expect(late.json().error.message).toMatch(/has ended \(completed\)/);
  });

  it.each([true, false])(
    "are cancelled by a closed connection (stream %s)",
    async (stream) => {
      const { app, client, engine } = await start(() => bytes("a"), {
        info: { maxModelLen: 10_000_000 },
      });
      engine.running = false;
      const url = await app.listen({ port: 0, host: "127.0.0.1" });
      const controller = new AbortController();
      const answer = fetch(url + URL, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ ...base, stream }),
        signal: controller.signal,
      });
      answer.catch(() => undefined);
      await expect.poll(() => engine.requests.length).toBe(1);
      controller.abort();
      await expect.poll(() => client.numPending).toBe(0);
      expect(engine.aborts).toEqual([{ choice: -1, reason: "abort" }]);
      expect((await app.inject("/load")).json()).toEqual({ server_load: 0 });
    },
  );
});
